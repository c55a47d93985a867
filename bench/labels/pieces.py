"""The labels of a caption's pieces, which stand between white space, for captions that are the sum of their pieces.

A tokeniser looks at little of what is around a piece. Of a clean caption's pieces, split at ASCII's white space (for
NLTK 3.8 at spaces):

* Every rule of `words` reads characters that are next to each other, and the space beside a piece, or the caption's
  edge, is all that it sees of its neighbours. Rules that take that space take it from no other rule's match that
  could make a letter part of another token.
* A sentence may begin before a piece, and it may end behind it. It ends behind a last . ? or ! as Punkt decides by the
  next piece, else only where the caption ends or nothing but closing brackets and quotes follow.
* A period inside a piece is decided inside: of several candidates in a piece Punkt asks the last.

So there are few ways in which a piece may be cut. Where all give the same labels, these are the piece's labels,
whatever stands beside it. Where they differ, captions with this piece have to be cut as a whole.
"""

import re
from collections.abc import Sequence
from itertools import repeat
from typing import TypeVar

from bench.labels.lexicon import NOT_A_LABEL, Lexicon
from bench.labels.tokens import Tokenizer

# A word that is one token whatever stands beside it, its genitive, and punctuation that is cut off. A period must
# end a sentence here, which `Tokenizer.sentences.always_ends` tells.
SIMPLE = re.compile(r"[(\"\[]*([a-z][a-z0-9]+(?:-[a-z0-9]+)*)(?:'s?)?(?:[,;:!?)\"\]]*|(\.))", re.ASCII)
# Anything without quotes, whose punctuation stands before a letter or digit or ends it as one comma or colon, is cut
# in one way. Such punctuation ends no sentence.
STEADY = re.compile(r"(?:[^'\"`‘’“”„«».,:?!]|[.,:?!](?=[a-z0-9]))+[,:]?", re.ASCII)
CUT_IN_TWO = {"cannot", "gimme", "gonna", "gotta", "lemme", "wanna"}
WITHOUT_NOUNS = re.compile(r"[^A-Za-z/]*")  # the only nouns without letters are 24/7 and 9/11
ENDS = re.compile(r"[.?!]")
NEIGHBOUR = "of"  # no label, no abbreviation
MOST = 1 << 19  # pieces that are remembered (100 MB), of at most so many characters
LONGEST = 64

Found = TypeVar("Found")
Labels = tuple[int, ...]
UNKNOWN: Labels = (NOT_A_LABEL,)


class Pieces:
    """Remembers the labels of pieces."""

    def __init__(self, tokenizer: Tokenizer, lexicon: Lexicon) -> None:
        self._tokenizer = tokenizer
        self._lexicon = lexicon
        self._words: dict[str, int] = {}
        self._pieces: dict[str, Labels | None] = {}

    def labels(self, pieces: Sequence[str]) -> list[Labels | None]:
        """Return the labels of each piece, None where they depend on its neighbours."""
        known = list(map(self._pieces.get, pieces, repeat(UNKNOWN)))
        for place, labels in enumerate(known):
            if labels is UNKNOWN:
                known[place] = self._remembered(pieces[place])
        return known

    def of_text(self, text: str) -> Labels:
        """Return the labels of a clean caption that has to be cut as a whole."""
        return self._of_tokens(self._tokenizer.cut(text))

    def label(self, word: str) -> int:
        """Return the label of a token."""
        label = self._words.get(word)
        if label is None:
            lemma = self._lexicon.lemma(word, detach_again=self._tokenizer.detach_again)
            label = self._lexicon.label_of.get(lemma, NOT_A_LABEL)
            _remember(self._words, word, label)
        return label

    def _remembered(self, piece: str) -> Labels | None:
        labels = self._found(piece)
        _remember(self._pieces, piece, labels)
        return labels

    def _found(self, piece: str) -> Labels | None:
        if simple := SIMPLE.fullmatch(piece):
            word, period = simple.groups()
            if CUT_IN_TWO.isdisjoint(word.split("-")) and not (
                period and not self._tokenizer.sentences.always_ends(piece)
            ):
                label = self.label(word)
                return () if label == NOT_A_LABEL else (label,)
        parts = piece.split()
        if parts != [piece]:  # white space beyond ASCII: Punkt does not end a word there
            if self._tokenizer.spaces_only or ENDS.search(piece):
                return () if not parts else None
            found = self.labels(parts)
            return None if None in found else tuple(label for labels in found for label in labels or ())
        if piece.isascii() and WITHOUT_NOUNS.fullmatch(piece):
            return ()
        if STEADY.fullmatch(piece):
            return self._of_tokens(self._tokenizer.words(piece))
        ways = set(self._ways(piece))
        return ways.pop() if len(ways) == 1 else None

    def _ways(self, piece: str) -> list[Labels]:
        """Return the labels for every way in which a piece may be cut."""
        sentence = self._tokenizer.words
        starts = (piece, f"{NEIGHBOUR} {piece}")
        middles = [f"{start} {NEIGHBOUR}" for start in starts]
        cuts = [self._tokenizer.cut(text) for text in starts]
        if piece[-1] not in ".?!":
            cuts += [self._tokenizer.cut(text) for text in middles]
        else:
            cuts += [sentence(text) for text in starts]
            if not self._tokenizer.sentences.always_ends(piece):
                cuts += [sentence(text) for text in middles]
        return [self._of_tokens(words) for words in cuts]

    def _of_tokens(self, words: list[str]) -> Labels:
        return tuple(label for label in map(self.label, words) if label != NOT_A_LABEL)


def _remember(found: dict[str, Found], text: str, what: Found) -> None:
    """Keep what was found of a text, unless it is long; begin anew where much is kept."""
    if len(found) >= MOST:
        found.clear()
    if len(text) <= LONGEST:
        found[text] = what
