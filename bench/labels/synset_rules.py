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

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.labels.cleaning import clean_caption_like_corenet
from bench.labels.label_rule import LABEL_LISTS
from bench.labels.pieces import CachedNounLabeller
from bench.labels.tokens import clean_and_tokenize
from bench.labels.wordnet import NOT_A_LABEL, lexicon

# Matches text that cleaning changes by more than lower case and white space: non-ASCII characters, +, %XX, tags and
# entities. In RE2's syntax.
UNCLEAN = r"[^\t\n\f -~]|\+|%[0-9A-Fa-f]{2}|<[^>\n]*>|&#?[0-9A-Za-z]{1,24};"
# A sentence end before closing brackets and quotes that stand alone: they are moved to that sentence, and may keep its
# period attached (` "` becomes ``), so that the piece with the period is tokenised differently than elsewhere.
SPACE = "[\t-\r\x1c-\x1f \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
MOVED_CLOSING = f"[.?!]{SPACE}+[\"')\\]}}‘’“”«»]+(?:{SPACE}|--|$)"
CAPTIONS_PER_PASS = 1 << 16  # bounds the memory for their pieces
TAGGER_WEIGHTS = "averaged_perceptron_tagger_eng"
Tagger = Callable[[list[str]], list[tuple[str, str]]]  # from tokens to tokens with their tags


class CorenetRule:
    """CatLIP's labels from captions: WordNet nouns, by the released code's rule."""

    name = "corenet"

    def __init__(self) -> None:
        self._lexicon = lexicon()
        self._pieces = CachedNounLabeller(self._lexicon)
        self.keys = self._lexicon.keys
        self.title = self._lexicon.title
        self.gloss = self._lexicon.gloss

    def label_ids(self, captions: pa.StringArray) -> pa.ListArray:
        """Return the label ids of each caption, with the order and the repeats of its tokens (see `LabelRule`)."""
        labels = []
        for start in range(0, max(1, len(captions)), CAPTIONS_PER_PASS):
            part = captions.slice(start, CAPTIONS_PER_PASS)
            labels.append(self._label_slice(part))
        return pa.concat_arrays(labels)

    def label_token(self, token: str) -> int:
        """Return a token's label, or NOT_A_LABEL."""
        return self._pieces.label_word(token)

    def _label_slice(self, captions: pa.StringArray) -> pa.ListArray:
        """Return the labels of some captions: the concatenated labels of their pieces.

        Captions with a piece whose labels depend on its neighbours are labelled as a whole.
        """
        texts = clean_captions(captions)
        split = pc.ascii_split_whitespace(texts)
        pieces = split.flatten().dictionary_encode()
        distinct_labels = self._pieces.label_pieces(pieces.dictionary.to_pylist())
        piece_labels = pa.array(distinct_labels, LABEL_LISTS).take(pieces.indices)
        starts = split.offsets.to_numpy()
        starts = starts - starts[0]
        offsets = piece_labels.offsets.take(pa.array(starts))
        labels = pa.ListArray.from_arrays(offsets, piece_labels.values, LABEL_LISTS)

        dependent_pieces = np.flatnonzero(piece_labels.is_null())
        rows_of_dependent_pieces = np.searchsorted(starts, dependent_pieces, side="right") - 1
        rows_with_moved_closing = np.flatnonzero(pc.match_substring_regex(texts, MOVED_CLOSING))
        rows = np.union1d(rows_of_dependent_pieces, rows_with_moved_closing)
        row_labels = []
        for text in captions.take(pa.array(rows)).to_pylist():
            tokens = clean_and_tokenize(text)
            row_labels.append(self._pieces.label_tokens(tokens))
        order = np.arange(len(captions))
        # Rows that were labelled as a whole follow the others.
        order[rows] = len(captions) + np.arange(len(rows))
        whole_labels = pa.array(row_labels, LABEL_LISTS)
        all_labels = pa.concat_arrays([labels, whole_labels])
        return all_labels.take(pa.array(order))


class PaperRule(CorenetRule):
    """CatLIP's labels from captions: WordNet nouns of the tokens that a tagger marks as nouns."""

    name = "paper"

    def __init__(self, tagger: Tagger | None = None) -> None:
        """Take a tagger, or load NLTK's; ValueError names the package or the weights to install."""
        super().__init__()
        self._tagger = tagger or _load_nltk_tagger()

    def label_ids(self, captions: pa.StringArray) -> pa.ListArray:
        """Return the label ids of each caption, with the order and the repeats of its nouns."""
        rows = [self._label_caption(caption or "") for caption in captions.to_pylist()]
        return pa.array(rows, LABEL_LISTS)

    def _label_caption(self, caption: str) -> list[int]:
        """Return the labels of the tokens that are nouns; a caption without labels is not tagged."""
        tokens = clean_and_tokenize(caption)
        labels = [self.label_token(token) for token in tokens]
        if all(label == NOT_A_LABEL for label in labels):
            return []
        nouns = []
        for label, (_, tag) in zip(labels, self._tagger(tokens), strict=True):
            # The Penn Treebank's tags of nouns are NN, NNS, NNP and NNPS.
            if label != NOT_A_LABEL and tag.startswith("NN"):
                nouns.append(label)
        return nouns


def _load_nltk_tagger() -> Tagger:
    """Load NLTK's averaged perceptron tagger; ValueError names the package or the weights to install."""
    try:
        from nltk.tag.perceptron import PerceptronTagger

        tagger: Tagger = PerceptronTagger().tag
    except ModuleNotFoundError as error:
        raise ValueError("--rule paper needs NLTK: pip install -e '.[paper]'") from error
    except LookupError as error:
        remedy = f"python -m nltk.downloader {TAGGER_WEIGHTS}"
        raise ValueError(f"--rule paper needs the weights of NLTK's tagger: {remedy}") from error
    return tagger


def clean_captions(captions: pa.StringArray) -> pa.StringArray:
    """Clean captions like `clean_caption_like_corenet`, which is called only for those that match UNCLEAN.

    White space is left as it is.
    """
    captions = pc.fill_null(captions, "")
    unclean = pc.match_substring_regex(captions, UNCLEAN)
    lower = pc.utf8_lower(captions)
    if not pc.any(unclean).as_py():
        return lower
    unclean_texts = captions.filter(unclean).to_pylist()
    cleaned = pa.array(map(clean_caption_like_corenet, unclean_texts), lower.type)
    return pc.replace_with_mask(lower, unclean, cleaned)
