"""Explanation of a caption's labels, token by token: `python -m bench label --explain "A dog"`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from bench.console.tables import Table
from bench.labels.lexicon import NOT_A_LABEL, Lexicon
from bench.labels.rules import Rule

GLOSS = 90  # characters


@dataclass(frozen=True, slots=True)
class ExplainedToken:
    """A token with its synset, or with the reason why it was dropped."""

    token: str
    lemma: str
    key: str | None = None  # n2084071
    title: str | None = None  # dog.n.01
    gloss: str | None = None
    dropped: str | None = None  # a sentence's part: "no noun of WordNet"


@runtime_checkable
class Explains(Protocol):
    """A rule that can explain the label of each token of a caption."""

    def explain(self, caption: str) -> Sequence[Any]:
        """Return an `ExplainedToken` for each token, in order."""
        ...


def explained(
    tokens: Iterable[tuple[str, str | None]], lexicon: Lexicon, *, detach_again: bool = False
) -> list[ExplainedToken]:
    """Explain tokens, in order; each comes with its part-of-speech tag if the rule keeps nouns only."""
    found = []
    for token, tag in tokens:
        lemma = lexicon.lemma(token, detach_again=detach_again)
        label = lexicon.label_of.get(lemma)
        reason = None
        if label is None:
            reason = "no noun of WordNet"
        elif label == NOT_A_LABEL:
            reason = f"a noun, but its first synset bears another word's name, so there is no {lemma}.n.01 of that name"
        elif tag is not None and not is_noun(tag):
            reason = f"tagged {tag}, which is no noun"
        if label is None or reason:
            found.append(ExplainedToken(token, lemma, dropped=reason))
        else:
            synset = lexicon.keys[label], lexicon.title(label), lexicon.gloss(label)
            found.append(ExplainedToken(token, lemma, *synset))
    return found


def is_noun(tag: str) -> bool:
    """Return whether a Penn Treebank tag marks a noun: NN, NNS, NNP, NNPS."""
    return tag.startswith("NN")


def explanation(rule: Rule, caption: str) -> Table:
    """Return a table of the tokens with their labels; of the labels alone if the rule cannot explain them."""
    if isinstance(rule, Explains):
        rows = [
            {
                "token": one.token,
                "lemma": one.lemma,
                "label": one.key,
                "name": one.title,
                "gloss, or why there is no label": shorten(one.dropped or one.gloss, GLOSS, placeholder=" …"),
            }
            for one in rule.explain(caption)
        ]
    else:
        ids, _ = rule.label(pa.array([caption], pa.string()))
        rows = [{"label": rule.keys[id_], "name": rule.title(id_), "gloss": rule.gloss(id_)} for id_ in ids.tolist()]
    return Table(f"Labels by the rule {rule.name}", rows)
