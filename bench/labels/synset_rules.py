"""CatLIP's labels, for an array of captions at a time: by its released code, and as its paper describes them.

Source: apple/corenet `corenet/data/datasets/classification/wordnet_tagged_classification.py`. A caption is cleaned and
tokenised, each token is reduced to its noun lemma, and the lemma is kept if WordNet's synset `{lemma}.n.01` exists and
has that name. The released code computes part-of-speech tags and does not use them. Labels keep the order and the
repeats of the tokens; the released code then sets one bit per label, so that training uses each label once. The tokens
depend on the version of NLTK: see `bench.labels.tokens`.

The paper (arXiv:2404.15653, section 3) keeps a label if its token is tagged as a noun: NN, NNS, NNP or NNPS. The tagger
is NLTK's averaged perceptron. It is pure Python: 1,000 to 2,000 captions/s on a core, compared with more than 100,000
captions/s of the released rule.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bench.labels.cleaning import clean_caption
from bench.labels.labeller import LabelIds, Offsets
from bench.labels.nltk_labels import TAGGER_WEIGHTS, Tag, explain_missing_nltk, load_tagger
from bench.labels.pieces import Labels, PieceLabels
from bench.labels.tokens import NLTK_3_10, Tokenizer
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

    def __init__(self, name: str = "corenet", tokenizer: Tokenizer = NLTK_3_10) -> None:
        self.name = name
        self._lexicon = lexicon()
        self.keys: Sequence[str] = self._lexicon.keys
        self.title, self.gloss = self._lexicon.title, self._lexicon.gloss
        self._tokenizer = tokenizer
        self._pieces = PieceLabels(tokenizer, self._lexicon)

    def label(self, captions: pa.StringArray) -> tuple[LabelIds, Offsets]:
        """Label captions; labels keep the order and the repeats of the tokens (see `labeller.LabelRule`)."""
        starts = range(0, len(captions), CAPTIONS_PER_PASS)
        parts = [self._label_pass(captions.slice(start, CAPTIONS_PER_PASS)) for start in starts]
        offsets = np.concatenate([[0], *(counts for _, counts in parts)]).cumsum(dtype=np.int64)
        return np.concatenate([np.empty(0, np.uint32), *(labels for labels, _ in parts)]), offsets

    def label_token(self, token: str) -> int:
        """Return a token's label, or NOT_A_LABEL."""
        return self._pieces.label_word(token)

    def explain(self, caption: str) -> list[ExplainedToken]:
        """Return each token with its synset or with the reason why it was dropped, in order."""
        found = []
        for token, tag in self._tokenize_and_tag(caption):
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

    def _tokenize_and_tag(self, caption: str) -> Iterable[tuple[str, str | None]]:
        """Return tokens with their part-of-speech tags, None because this rule ignores them."""
        return ((token, None) for token in self._tokenizer(caption))

    def _label_pass(self, captions: pa.StringArray) -> tuple[LabelIds, Offsets]:
        texts = clean_captions(captions)
        split = pc.split_pattern(texts, " ") if self._tokenizer.spaces_only else pc.ascii_split_whitespace(texts)
        pieces = split.flatten().dictionary_encode()
        starts = split.offsets.to_numpy() - split.offsets[0].as_py()
        known = self._pieces.label_pieces(pieces.dictionary.to_pylist())
        piece_of = pieces.indices.to_numpy()
        labels, counts = _gather_piece_labels(known, piece_of)
        ends = np.concatenate([[0], counts.cumsum()])[starts]
        needs_context = np.array([found is None for found in known], dtype=bool)
        rows = np.searchsorted(starts, np.flatnonzero(needs_context[piece_of]), side="right") - 1
        rows_with_moved_closing = np.flatnonzero(pc.match_substring_regex(texts, MOVED_CLOSING))
        return self._replace_labels(np.union1d(rows, rows_with_moved_closing), captions, labels, ends)

    def _replace_labels(
        self, rows: npt.NDArray[np.int64], captions: pa.StringArray, labels: LabelIds, ends: Offsets
    ) -> tuple[LabelIds, Offsets]:
        """Replace the labels of captions that must be tokenised as a whole."""
        counts = np.diff(ends)
        parts, done = [], 0
        for row, text in zip(rows.tolist(), captions.take(pa.array(rows)).to_pylist(), strict=True):
            found = self._pieces.label_tokens(self._tokenizer(text))
            parts += [labels[done : ends[row]], np.array(found, dtype=np.uint32)]
            done = ends[row + 1]
            counts[row] = len(found)
        return np.concatenate([*parts, labels[done:]]), counts


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


def _gather_piece_labels(known: list[Labels | None], piece_of: npt.NDArray[np.int32]) -> tuple[LabelIds, Offsets]:
    """Return the labels of pieces by their indices, and the number of labels of each."""
    labels = np.array([label for found in known for label in found or ()], dtype=np.uint32)
    lengths = np.array([len(found or ()) for found in known], dtype=np.int64)
    counts = lengths[piece_of]
    first = (lengths.cumsum() - lengths)[piece_of] - (counts.cumsum() - counts)
    return labels[np.repeat(first, counts) + np.arange(counts.sum())], counts


class PaperRule(CorenetRule):
    """CatLIP's labels from captions: WordNet nouns of the tokens that a tagger marks as nouns."""

    def __init__(self, tag: Tag | None = None) -> None:
        """Take a tagger, or load NLTK's; ValueError names the package or the weights to install."""
        super().__init__("paper")
        with explain_missing_nltk("--rule paper", TAGGER_WEIGHTS):
            self._tag = tag or load_tagger()

    def label(self, captions: pa.StringArray) -> tuple[LabelIds, Offsets]:
        """Label captions; order and repeats are those of the released rule."""
        rows = [self._label_caption(caption or "") for caption in captions.to_pylist()]
        offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        return np.array([label for row in rows for label in row], dtype=np.uint32), offsets

    def _tokenize_and_tag(self, caption: str) -> Iterable[tuple[str, str | None]]:
        return self._tag(NLTK_3_10(caption))

    def _label_caption(self, caption: str) -> list[int]:
        tokens = NLTK_3_10(caption)
        labels = [self.label_token(token) for token in tokens]
        if all(label == NOT_A_LABEL for label in labels):
            return []
        tagged = zip(labels, self._tag(tokens), strict=True)
        return [label for label, (_, tag) in tagged if label != NOT_A_LABEL and is_noun(tag)]
