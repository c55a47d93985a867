"""Labels of pieces, the parts of a caption between white space, for captions whose labels are the sum of their pieces'.

A tokeniser reads little of a piece's context. For the pieces of a clean caption, split at ASCII white space (for NLTK
3.8 at spaces):

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

from bench.labels.tokens import Tokenizer
from bench.labels.wordnet import NOT_A_LABEL, Lexicon

# A word that is one token in any context, its genitive, and punctuation that is split off. A period must end a sentence
# here, which `Tokenizer.sentences.always_ends` decides.
SIMPLE = re.compile(r"[(\"\[]*([a-z][a-z0-9]+(?:-[a-z0-9]+)*)(?:'s?)?(?:[,;:!?)\"\]]*|(\.))", re.ASCII)
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
Labels = tuple[int, ...]
UNKNOWN: Labels = (NOT_A_LABEL,)


class PieceLabels:
    """A cache of the labels of pieces."""

    def __init__(self, tokenizer: Tokenizer, lexicon: Lexicon) -> None:
        self._tokenizer = tokenizer
        self._lexicon = lexicon
        self._words: dict[str, int] = {}
        self._pieces: dict[str, Labels | None] = {}

    def label_pieces(self, pieces: Sequence[str]) -> list[Labels | None]:
        """Return the labels of each piece; None if they depend on its neighbours."""
        known = list(map(self._pieces.get, pieces, repeat(UNKNOWN)))
        for index, labels in enumerate(known):
            if labels is UNKNOWN:
                known[index] = self._label_piece(pieces[index])
                _cache_entry(self._pieces, pieces[index], known[index])
        return known

    def label_word(self, word: str) -> int:
        label = self._words.get(word)
        if label is None:
            lemma = self._lexicon.lemma(word, detach_again=self._tokenizer.detach_again)
            label = self._lexicon.label_of.get(lemma, NOT_A_LABEL)
            _cache_entry(self._words, word, label)
        return label

    def _label_piece(self, piece: str) -> Labels | None:
        if simple := SIMPLE.fullmatch(piece):
            word, period = simple.groups()
            is_decided = not period or self._tokenizer.sentences.always_ends(piece)
            if is_decided and CUT_IN_TWO.isdisjoint(word.split("-")):
                label = self.label_word(word)
                return () if label == NOT_A_LABEL else (label,)
        parts = piece.split()
        if parts != [piece]:  # white space beyond ASCII: Punkt does not end a word there
            if self._tokenizer.spaces_only or ENDS.search(piece):
                return () if not parts else None
            by_part = self.label_pieces(parts)
            return None if None in by_part else tuple(label for labels in by_part for label in labels or ())
        if piece.isascii() and WITHOUT_NOUNS.fullmatch(piece):
            return ()
        if STEADY.fullmatch(piece):
            return self.label_tokens(self._tokenizer.words(piece))
        labels_by_way = set(self._label_each_way(piece))
        return labels_by_way.pop() if len(labels_by_way) == 1 else None

    def _label_each_way(self, piece: str) -> list[Labels]:
        """Return the labels for each way in which a piece can be tokenised."""
        sentence = self._tokenizer.words
        starts = (piece, f"{NEIGHBOUR} {piece}")
        middles = [f"{start} {NEIGHBOUR}" for start in starts]
        tokenizations = [self._tokenizer.split(text) for text in starts]
        if piece[-1] not in ".?!":
            tokenizations += [self._tokenizer.split(text) for text in middles]
        else:
            tokenizations += [sentence(text) for text in starts]
            if not self._tokenizer.sentences.always_ends(piece):
                tokenizations += [sentence(text) for text in middles]
        return [self.label_tokens(words) for words in tokenizations]

    def label_tokens(self, words: list[str]) -> Labels:
        return tuple(label for label in map(self.label_word, words) if label != NOT_A_LABEL)


def _cache_entry(cache: dict[str, Value], text: str, value: Value) -> None:
    """Cache an entry unless the text is long; clear the cache when it is full."""
    if len(cache) >= MAX_ENTRIES:
        cache.clear()
    if len(text) <= MAX_LENGTH:
        cache[text] = value
