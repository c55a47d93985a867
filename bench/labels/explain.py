"""Why a caption has the labels that it has, token by token: `python -m bench label --explain "…"`."""

from collections.abc import Iterable
from dataclasses import dataclass

from bench.labels.lexicon import NOT_A_LABEL, Lexicon


@dataclass(frozen=True, slots=True)
class ExplainedToken:
    """A token and what became of it: it has a synset, or a reason why it was dropped."""

    token: str
    lemma: str
    key: str | None  # n2084071
    title: str | None  # dog.n.01
    gloss: str | None
    dropped: str | None  # a sentence's part: "no noun of WordNet"


def explained(
    tokens: Iterable[tuple[str, str | None]], lexicon: Lexicon, *, detach_again: bool = False
) -> list[ExplainedToken]:
    """Explain tokens, in order; each comes with its part-of-speech tag where the rule asks for nouns."""
    found = []
    for token, tag in tokens:
        lemma = lexicon.lemma(token, detach_again=detach_again)
        label = lexicon.label_of.get(lemma)
        if label is None:
            reason: str | None = "no noun of WordNet"
        elif label == NOT_A_LABEL:
            reason = f"a noun, but its first synset bears another word's name, so there is no {lemma}.n.01 of that name"
        else:
            reason = f"tagged {tag}, which is no noun" if tag is not None and not is_noun(tag) else None
        if label is None or reason:
            found.append(ExplainedToken(token, lemma, None, None, None, reason))
        else:
            found.append(
                ExplainedToken(token, lemma, lexicon.keys[label], lexicon.title(label), lexicon.gloss(label), None)
            )
    return found


def is_noun(tag: str) -> bool:
    """Return whether a tag of the Penn Treebank is a noun's: NN, NNS, NNP, NNPS."""
    return tag.startswith("NN")
