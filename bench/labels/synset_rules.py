"""CatLIP's labels, for an array of captions at a time: by its released code, and as its paper describes them.

Source: apple/corenet `corenet/data/datasets/classification/wordnet_tagged_classification.py`. A caption is cleaned and
tokenised, each token is reduced to its noun lemma, and the lemma is kept if WordNet's synset `{lemma}.n.01` exists and
has that name. The released code computes part-of-speech tags and does not use them. Labels keep the order and the
repeats of the tokens; the released code then sets one bit per label, so that training uses each label once. The tokens
are NLTK 3.10's: see `bench.labels.tokens`.

The paper (arXiv:2404.15653, section 3) keeps a label if its token is tagged as a noun: NN, NNS, NNP or NNPS. The tagger
is NLTK's averaged perceptron. It is pure Python: 1,000 to 2,000 captions/s on a core, compared with more than 100,000
captions/s of the released rule.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bench.labels.cleaning import clean_caption
from bench.labels.label_rule import LabelIds, Offsets, concatenate_rows
from bench.labels.nltk_labels import TAGGER_WEIGHTS, Tag, explain_missing_nltk, load_tagger
from bench.labels.pieces import Labels, PieceLabels
from bench.labels.tokens import tokenize_caption
from bench.labels.wordnet import NOT_A_LABEL, lexicon

# Matches text that cleaning changes by more than lower case and white space: non-ASCII characters, +, %XX, tags and
# entities. In RE2's syntax.
UNCLEAN = r"[^\t\n\f -~]|\+|%[0-9A-Fa-f]{2}|<[^>\n]*>|&#?[0-9A-Za-z]{1,24};"
# A sentence end before closing brackets and quotes that stand alone: they are moved to that sentence, and may keep its
# period attached (` "` becomes ``), so that the piece with the period is tokenised differently than elsewhere.
SPACE = "[\t-\r\x1c-\x1f \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
MOVED_CLOSING = f"[.?!]{SPACE}+[\"')\\]}}‘’“”«»]+(?:{SPACE}|--|$)"
CAPTIONS_PER_PASS = 1 << 16  # bounds the memory for their pieces


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

    name = "corenet"

    def __init__(self) -> None:
        self._lexicon = lexicon()
        self._pieces = PieceLabels(self._lexicon)
        self.keys: Sequence[str] = self._lexicon.keys
        self.title = self._lexicon.title
        self.gloss = self._lexicon.gloss

    def label(self, captions: pa.StringArray) -> tuple[LabelIds, Offsets]:
        """Label captions; labels keep the order and the repeats of the tokens (see `LabelRule`)."""
        labels = [np.empty(0, np.uint32)]
        counts = [np.zeros(1, np.int64)]
        for start in range(0, len(captions), CAPTIONS_PER_PASS):
            pass_labels, pass_counts = self._label_pass(captions.slice(start, CAPTIONS_PER_PASS))
            labels.append(pass_labels)
            counts.append(pass_counts)
        return np.concatenate(labels), np.concatenate(counts).cumsum()

    def label_token(self, token: str) -> int:
        """Return a token's label, or NOT_A_LABEL."""
        return self._pieces.label_word(token)

    def explain(self, caption: str) -> list[ExplainedToken]:
        """Return each token with its synset or with the reason why it was dropped, in order."""
        return [self._explain_token(token, tag) for token, tag in self._tokenize_and_tag(caption)]

    def _explain_token(self, token: str, tag: str | None) -> ExplainedToken:
        lemma = self._lexicon.lemma(token)
        label = self._lexicon.label_of.get(lemma)
        if label is None:
            return ExplainedToken(token, lemma, dropped="no noun of WordNet")
        if label == NOT_A_LABEL:
            reason = f"a noun, but its first synset has another word's name, so {lemma}.n.01 is not its name"
            return ExplainedToken(token, lemma, dropped=reason)
        if tag is not None and not is_noun(tag):
            return ExplainedToken(token, lemma, dropped=f"tagged {tag}, which is no noun")
        return ExplainedToken(token, lemma, self.keys[label], self.title(label), self.gloss(label))

    def _tokenize_and_tag(self, caption: str) -> Iterable[tuple[str, str | None]]:
        """Return tokens with their part-of-speech tags, None because this rule ignores them."""
        return [(token, None) for token in tokenize_caption(caption)]

    def _label_pass(self, captions: pa.StringArray) -> tuple[LabelIds, npt.NDArray[np.int64]]:
        """Return the labels of captions as the sum of their pieces' labels, and the number of labels of each caption.

        Captions that must be tokenised as a whole are labelled again.
        """
        texts = clean_captions(captions)
        split = pc.ascii_split_whitespace(texts)
        pieces = split.flatten().dictionary_encode()
        piece_indices = pieces.indices.to_numpy()
        labels_by_piece = self._pieces.label_pieces(pieces.dictionary.to_pylist())
        labels, counts = _gather_piece_labels(labels_by_piece, piece_indices)
        caption_starts = split.offsets.to_numpy() - split.offsets[0].as_py()
        offsets = np.concatenate([[0], counts.cumsum()])[caption_starts]
        needs_context = np.array(
            [piece_labels is None for piece_labels in labels_by_piece], dtype=bool
        )
        rows = (
            np.searchsorted(
                caption_starts, np.flatnonzero(needs_context[piece_indices]), side="right"
            )
            - 1
        )
        rows_with_moved_closing = np.flatnonzero(pc.match_substring_regex(texts, MOVED_CLOSING))
        return self._replace_labels(
            np.union1d(rows, rows_with_moved_closing), captions, labels, offsets
        )

    def _replace_labels(
        self,
        rows: npt.NDArray[np.int64],
        captions: pa.StringArray,
        labels: LabelIds,
        offsets: Offsets,
    ) -> tuple[LabelIds, npt.NDArray[np.int64]]:
        """Replace the labels of captions that must be tokenised as a whole; return them with the number of each."""
        counts = np.diff(offsets)
        parts = []
        done = 0
        for row, text in zip(rows.tolist(), captions.take(pa.array(rows)).to_pylist(), strict=True):
            row_labels = self._pieces.label_tokens(tokenize_caption(text))
            parts += [labels[done : offsets[row]], np.array(row_labels, dtype=np.uint32)]
            done = offsets[row + 1]
            counts[row] = len(row_labels)
        return np.concatenate([*parts, labels[done:]]), counts


class PaperRule(CorenetRule):
    """CatLIP's labels from captions: WordNet nouns of the tokens that a tagger marks as nouns."""

    name = "paper"

    def __init__(self, tag: Tag | None = None) -> None:
        """Take a tagger, or load NLTK's; ValueError names the package or the weights to install."""
        super().__init__()
        with explain_missing_nltk("--rule paper", TAGGER_WEIGHTS):
            self._tag = tag or load_tagger()

    def label(self, captions: pa.StringArray) -> tuple[LabelIds, Offsets]:
        """Label captions; order and repeats are those of the released rule."""
        rows = [self._label_caption(caption or "") for caption in captions.to_pylist()]
        return concatenate_rows(rows)

    def _tokenize_and_tag(self, caption: str) -> Iterable[tuple[str, str | None]]:
        return self._tag(tokenize_caption(caption))

    def _label_caption(self, caption: str) -> list[int]:
        tokens = tokenize_caption(caption)
        labels = [self.label_token(token) for token in tokens]
        if all(label == NOT_A_LABEL for label in labels):
            return []
        nouns = []
        for label, (_, tag) in zip(labels, self._tag(tokens), strict=True):
            if label != NOT_A_LABEL and is_noun(tag):
                nouns.append(label)
        return nouns


def is_noun(tag: str) -> bool:
    """Return whether a Penn Treebank tag marks a noun: NN, NNS, NNP, NNPS."""
    return tag.startswith("NN")


def clean_captions(captions: pa.StringArray) -> pa.StringArray:
    """Clean captions, except for white space; `clean_caption` is called only for captions that match UNCLEAN."""
    captions = pc.fill_null(captions, "")
    unclean = pc.match_substring_regex(captions, UNCLEAN)
    lower = pc.utf8_lower(captions)
    if not pc.any(unclean).as_py():
        return lower
    texts = [clean_caption(text) for text in captions.filter(unclean).to_pylist()]
    return pc.replace_with_mask(lower, unclean, pa.array(texts, type=lower.type))


def _gather_piece_labels(
    labels_by_piece: list[Labels | None], piece_indices: npt.NDArray[np.int32]
) -> tuple[LabelIds, npt.NDArray[np.int64]]:
    """Return the labels of pieces by their indices, concatenated, and the number of labels of each piece."""
    known = [piece_labels or () for piece_labels in labels_by_piece]
    labels = np.fromiter(chain.from_iterable(known), np.uint32)
    lengths = np.fromiter(map(len, known), np.int64)
    starts = lengths.cumsum() - lengths
    counts = lengths[piece_indices]
    # From a position in the result to one in `labels`.
    shift = starts[piece_indices] - (counts.cumsum() - counts)
    return labels[np.repeat(shift, counts) + np.arange(counts.sum())], counts
