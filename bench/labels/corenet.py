"""The labels of CatLIP's released code, for an array of captions at a time.

Source: apple/corenet `corenet/data/datasets/classification/wordnet_tagged_classification.py`. A caption is cleaned and
tokenised, each token is reduced to its noun lemma, and the lemma is kept if WordNet's synset `{lemma}.n.01` exists and
has that name. The released code computes part-of-speech tags and does not use them. Labels keep the order and the
repeats of the tokens; the released code then sets one bit per label, so that training uses each label once. The tokens
depend on the version of NLTK: see `bench.labels.tokens`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bench.labels.cleaning import clean
from bench.labels.lexicon import NOT_A_LABEL, lexicon
from bench.labels.pieces import Labels, PieceLabels
from bench.labels.tokens import NLTK_3_8, NLTK_3_10, Tokenizer

# Matches text that cleaning changes by more than lower case and white space: non-ASCII characters, +, %XX, tags and
# entities. In RE2's syntax.
UNCLEAN = r"[^\t\n\f -~]|\+|%[0-9A-Fa-f]{2}|<[^>\n]*>|&#?[0-9A-Za-z]{1,24};"
# A sentence end before closing brackets and quotes that stand alone: they are moved to that sentence, and may keep its
# period attached (` "` becomes ``), so that the piece with the period is tokenised differently than elsewhere.
SPACE = "[\t-\r\x1c-\x1f \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
MOVED = f"[.?!]{SPACE}+[\"')\\]}}‘’“”«»]+(?:{SPACE}|--|$)"
ROWS = 1 << 16  # captions per pass; bounds the memory for their pieces


@dataclass(frozen=True, slots=True)
class ExplainedToken:
    """A token with its synset, or with the reason why it was dropped."""

    token: str
    lemma: str
    key: str | None = None  # n2084071
    title: str | None = None  # dog.n.01
    gloss: str | None = None
    dropped: str | None = None  # a clause: "no noun of WordNet"


class CorenetRule:
    """CatLIP's labels from captions: WordNet nouns, by the released code's rule."""

    def __init__(self, name: str = "corenet", tokenizer: Tokenizer = NLTK_3_10) -> None:
        self.name = name
        self._lexicon = lexicon()
        self.keys: Sequence[str] = self._lexicon.keys
        self.title, self.gloss = self._lexicon.title, self._lexicon.gloss
        self._tokenizer = tokenizer
        self._pieces = PieceLabels(tokenizer, self._lexicon)

    def label(self, captions: pa.StringArray) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
        """Label captions; labels keep the order and the repeats of the tokens (see `rules.Rule.label`)."""
        parts = [self._label(captions.slice(start, ROWS)) for start in range(0, len(captions), ROWS)]
        labels = [labels for labels, _ in parts]
        counts = [counts for _, counts in parts]
        offsets = np.concatenate([[0], *counts]).cumsum(dtype=np.int64)
        return np.concatenate([np.empty(0, np.uint32), *labels]), offsets

    def synsets(self, captions: Sequence[str]) -> list[list[str]]:
        labels, offsets = self.label(pa.array(captions, pa.string()))
        keys = [self.keys[label] for label in labels.tolist()]
        return [keys[start:end] for start, end in pairwise(offsets.tolist())]

    def label_of(self, token: str) -> int:
        """Return a token's label, or NOT_A_LABEL."""
        return self._pieces.label(token)

    def explain(self, caption: str) -> list[ExplainedToken]:
        """Return each token with its synset or with the reason why it was dropped, in order."""
        found = []
        for token, tag in self._tagged(caption):
            lemma = self._lexicon.lemma(token, detach_again=self._tokenizer.detach_again)
            label = self._lexicon.label_of.get(lemma)
            if label is None:
                dropped = "no noun of WordNet"
            elif label == NOT_A_LABEL:
                dropped = f"a noun, but its first synset has another word's name, so {lemma}.n.01 is not its name"
            elif tag is not None and not is_noun(tag):
                dropped = f"tagged {tag}, which is no noun"
            else:
                synset = self.keys[label], self.title(label), self.gloss(label)
                found.append(ExplainedToken(token, lemma, *synset))
                continue
            found.append(ExplainedToken(token, lemma, dropped=dropped))
        return found

    def _tagged(self, caption: str) -> Iterable[tuple[str, str | None]]:
        """Return tokens with their part-of-speech tags, None because this rule ignores them."""
        return ((token, None) for token in self._tokenizer(caption))

    def _label(self, captions: pa.StringArray) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
        texts = clean_captions(captions)
        split = pc.split_pattern(texts, " ") if self._tokenizer.spaces_only else pc.ascii_split_whitespace(texts)
        pieces = split.flatten().dictionary_encode()
        starts = split.offsets.to_numpy() - split.offsets[0].as_py()
        known = self._pieces.labels(pieces.dictionary.to_pylist())
        which = pieces.indices.to_numpy()
        labels, counts = _gather_labels(known, which)
        ends = np.concatenate([[0], counts.cumsum()])[starts]
        odd = np.array([found is None for found in known], dtype=bool)
        rows = np.searchsorted(starts, np.flatnonzero(odd[which]), side="right") - 1
        moved = np.flatnonzero(pc.match_substring_regex(texts, MOVED))
        whole = np.union1d(rows, moved)
        return self._replace_labels(whole, captions, labels, ends) if len(whole) else (labels, np.diff(ends))

    def _replace_labels(
        self,
        rows: npt.NDArray[np.int64],
        captions: pa.StringArray,
        labels: npt.NDArray[np.uint32],
        ends: npt.NDArray[np.int64],
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
        """Replace the labels of captions that must be tokenised as a whole."""
        counts = np.diff(ends)
        parts, done = [], 0
        for row, text in zip(rows.tolist(), captions.take(pa.array(rows)).to_pylist(), strict=True):
            found = self._pieces.of_tokens(self._tokenizer(text))
            parts += [labels[done : ends[row]], np.array(found, dtype=np.uint32)]
            done = ends[row + 1]
            counts[row] = len(found)
        return np.concatenate([*parts, labels[done:]]), counts


@cache
def corenet() -> CorenetRule:
    """Return the rule with the tokens of NLTK 3.10, created once per process."""
    return CorenetRule()


@cache
def corenet_with_nltk_3_8() -> CorenetRule:
    """Return the rule as CatLIP's README installs it, with NLTK 3.8.1: 0.34 % of real captions get other labels."""
    return CorenetRule("corenet-nltk-3.8.1", NLTK_3_8)


def is_noun(tag: str) -> bool:
    """Return whether a Penn Treebank tag marks a noun: NN, NNS, NNP, NNPS."""
    return tag.startswith("NN")


def clean_captions(captions: pa.StringArray) -> pa.StringArray:
    """Clean captions, except for white space; `clean` is called only for captions that match UNCLEAN."""
    captions = pc.fill_null(captions, "")
    unclean = pc.match_substring_regex(captions, UNCLEAN)
    lower = pc.utf8_lower(captions)
    if not pc.any(unclean).as_py():
        return lower
    texts = [clean(text) for text in captions.filter(unclean).to_pylist()]
    return pc.replace_with_mask(lower, unclean, pa.array(texts, type=lower.type))


def _gather_labels(
    known: list[Labels | None], which: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
    """Return the labels of pieces by their indices, and the number of labels of each."""
    first = np.array([found[0] if found else 0 for found in known], dtype=np.uint32)
    length = np.array([len(found or ()) for found in known], dtype=np.int64)
    counts = length[which]
    labels = np.repeat(first[which], counts)
    more = np.flatnonzero(counts > 1)
    if len(more):
        starts = counts.cumsum() - counts
        for place in more.tolist():
            found = known[which[place]]
            labels[starts[place] : starts[place] + len(found)] = found
    return labels, counts
