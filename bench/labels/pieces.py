"""Labels of pieces, the parts of a caption between white space, for captions whose labels are the sum of their pieces'.

A tokeniser reads little of a piece's context. For the pieces of a clean caption, split at ASCII white space:

* Every rule of `words` reads adjacent characters, so of a piece's neighbours it sees only the space beside the piece,
or the caption's edge. Rules that consume that space take it from no other rule's match that could make a letter part of
another token.
* A sentence may begin before a piece and end after it. After a final . ? or ! Punkt decides by the next piece;
otherwise the sentence ends only if the caption ends or nothing but closing brackets and quotes follow.
* A period inside a piece is decided inside: of several candidates in a piece, Punkt uses the last.

A piece can thus be tokenised in few ways. If all ways give the same labels, these are the piece's labels in any
context. Otherwise, captions with this piece must be tokenised as a whole.
"""

import re
from collections.abc import Sequence
from itertools import repeat
from typing import TypeVar

from bench.labels.tokens import always_ends_sentence, split_into_nltk_words, split_words
from bench.labels.wordnet import NOT_A_LABEL, NounLabelLexicon

# A word that is one token in any context, its genitive, and punctuation that is split off. A period must end a sentence
# here, which `always_ends_sentence` decides.
SIMPLE = re.compile(
    r"[(\"\[]*([a-z][a-z0-9]+(?:-[a-z0-9]+)*)(?:'s?)?(?:[,;:!?)\"\]]*|(\.))", re.ASCII
)
# Text without quotes is tokenised in one way if its punctuation stands before a letter or digit, or is one comma or
# colon at the end. Such punctuation ends no sentence.
STEADY = re.compile(r"(?:[^'\"`‘’“”„«».,:?!]|[.,:?!](?=[a-z0-9]))+[,:]?", re.ASCII)
CUT_IN_TWO = {"cannot", "gimme", "gonna", "gotta", "lemme", "wanna"}
WITHOUT_NOUNS = re.compile(r"[^A-Za-z/]*")  # the only nouns without letters are 24/7 and 9/11
ENDS = re.compile(r"[.?!]")
NEIGHBOUR = "of"  # no label, no abbreviation
MAX_ENTRIES = 1 << 19  # pieces in the cache (100 MB)
MAX_LENGTH = 64  # characters of a piece that is cached

Value = TypeVar("Value")
LabelIds = tuple[int, ...]
UNKNOWN: LabelIds = (NOT_A_LABEL,)


class CachedNounLabeller:
    """Labels pieces (the parts of captions between white space) and tokens, and caches their labels.

    A piece's labels are None if they depend on its neighbours.
    """

    def __init__(self, lexicon: NounLabelLexicon) -> None:
        self._lexicon = lexicon
        self._words: dict[str, int] = {}
        self._pieces: dict[str, LabelIds | None] = {}

    def label_pieces(self, pieces: Sequence[str]) -> list[LabelIds | None]:
        """Return the labels of each piece; None if they depend on its neighbours."""
        labels_of_pieces = list(map(self._pieces.get, pieces, repeat(UNKNOWN)))
        for index, labels in enumerate(labels_of_pieces):
            if labels is UNKNOWN:
                piece = pieces[index]
                labels_of_pieces[index] = self._label_piece(piece)
                _cache_entry(self._pieces, piece, labels_of_pieces[index])
        return labels_of_pieces

    def label_word(self, word: str) -> int:
        """Return a token's label, or NOT_A_LABEL."""
        label = self._words.get(word)
        if label is None:
            lemma = self._lexicon.lemma(word)
            label = self._lexicon.label_of.get(lemma, NOT_A_LABEL)
            _cache_entry(self._words, word, label)
        return label

    def label_tokens(self, tokens: list[str]) -> LabelIds:
        """Return the labels of the tokens that have one, in their order."""
        labels = map(self.label_word, tokens)
        return tuple(label for label in labels if label != NOT_A_LABEL)

    def _label_piece(self, piece: str) -> LabelIds | None:
        """Label a piece, by the fastest way that is certain; None if its labels depend on its neighbours."""
        simple = SIMPLE.fullmatch(piece)
        if simple:
            word, period = simple.groups()
            is_decided = not period or always_ends_sentence(piece)
            if is_decided and CUT_IN_TWO.isdisjoint(word.split("-")):
                label = self.label_word(word)
                return () if label == NOT_A_LABEL else (label,)
        parts = piece.split()
        if parts != [piece]:
            return self._label_piece_by_unicode_parts(piece, parts)
        if piece.isascii() and WITHOUT_NOUNS.fullmatch(piece):
            return ()
        if STEADY.fullmatch(piece):
            return self.label_tokens(split_words(piece))
        labels_by_way = set(self._label_all_tokenizations(piece))
        return labels_by_way.pop() if len(labels_by_way) == 1 else None

    def _label_piece_by_unicode_parts(self, piece: str, parts: list[str]) -> LabelIds | None:
        """Label a piece by its parts between white space beyond ASCII, at which Punkt does not end a word."""
        if not parts:
            return ()
        if ENDS.search(piece):
            return None
        labels: LabelIds = ()
        for part_labels in self.label_pieces(parts):
            if part_labels is None:
                return None
            labels += part_labels
        return labels

    def _label_all_tokenizations(self, piece: str) -> list[LabelIds]:
        """Return the labels for each way in which a piece can be tokenised."""
        starts = (piece, f"{NEIGHBOUR} {piece}")
        middles = [f"{start} {NEIGHBOUR}" for start in starts]
        tokenizations = [split_into_nltk_words(text) for text in starts]
        if piece[-1] not in ".?!":
            tokenizations += [split_into_nltk_words(text) for text in middles]
        else:
            tokenizations += [split_words(text) for text in starts]
            if not always_ends_sentence(piece):
                tokenizations += [split_words(text) for text in middles]
        return [self.label_tokens(tokens) for tokens in tokenizations]


def _cache_entry(cache: dict[str, Value], text: str, value: Value) -> None:
    """Add an entry to a cache unless the text is long; clear the cache when it is full."""
    if len(cache) >= MAX_ENTRIES:
        cache.clear()
    if len(text) <= MAX_LENGTH:
        cache[text] = value
