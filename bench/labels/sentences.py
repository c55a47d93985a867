"""Punkt's sentence boundaries for lower-case English, equal to those of NLTK's `sent_tokenize`.

Algorithm: Kiss and Strunk 2006, Computational Linguistics 32(4). Parameters: the pack's `punkt-english.json`. It holds
the entries of NLTK's English model that can affect lower-case text: abbreviations, collocations, and the words that
began sentences in lower case only. The model's sentence starters and the rest of its table of letter cases affect
capitalised words alone.
"""

import re
from collections.abc import Iterator
from functools import cache, cached_property
from itertools import pairwise
from types import ModuleType
from typing import Any

import msgspec

from bench.data.manifest import PACK

MANY = r"(?:-{2,}|\.{2,}|(?:\.\s){2,}\.)"  # punctuation of several characters: dashes and ellipses
ELLIPSIS = re.compile(r"\.\.+$")
NUMBER = "##number##"  # Punkt's type of every number
PUNCTUATION = (";", ":", ",", ".", "!", "?")
SPACE = " \t\n\r\x0b\x0c"


class Parameters(msgspec.Struct, frozen=True, dict=True, rename={"lower_case_starters": "lower-case starters"}):
    """Punkt's parameters of a language."""

    abbreviations: frozenset[str]  # without their last period
    collocations: frozenset[tuple[str, str]]  # the words before and after a period
    lower_case_starters: frozenset[str]

    @cached_property
    def before_collocations(self) -> frozenset[str]:
        """The first words of the collocations."""
        return frozenset(first for first, _ in self.collocations)


@cache
def parameters() -> Parameters:
    """Return the shipped parameters, read once per process."""
    return msgspec.json.decode((PACK / "punkt-english.json").read_bytes(), type=Parameters)


class SentenceSplitter:
    """Splits a text into sentences; `quotes` are the curly quotes that count as quotes."""

    def __init__(self, engine: ModuleType, quotes: str) -> None:
        not_in_words = rf"""[)";}}\]*:@'({{\[{quotes}?!]"""
        self._candidate = engine.compile(rf"[.?!](?=(?P<after>{not_in_words}|\s+(?P<next>\S+)))")
        self._closing = engine.compile(rf"""["')\]}}{quotes}]+?(?:\s+|(?=--)|$)""", engine.MULTILINE)
        end = rf"\s|$|{not_in_words}|{MANY}"
        self._initial = engine.compile(r"[^\W\d]\.$")
        self._number = engine.compile(r"-?[.,]?\d[\d,.-]*\.?$")
        self._token = engine.compile(rf"""{MANY}|(?=[^("`{{\[:;&#*@)}}\]\-,])\S+?(?={end}|,(?={end}))|\S""")

    def __call__(self, text: str) -> list[str]:
        """Return the sentences, without the white space between them."""
        if not self._candidate.search(text):
            return [text.rstrip()]
        return [text[start:stop] for start, stop in self._with_closing(text, list(self._cut(text))) if start < stop]

    def always_ends(self, piece: str) -> bool:
        """Return whether a sentence ends after a piece without spaces that ends in a period, whatever follows it."""
        token = self._token.findall(piece)[-1]
        kind = self._kind(token).removesuffix(".")
        known = parameters()
        undecided = self._initial.match(token) or kind == NUMBER or kind in known.before_collocations
        return token.endswith(".") and _seems_to_end(token, known) and not undecided

    def _cut(self, text: str) -> Iterator[tuple[int, int]]:
        start = 0
        for match, context in self._contexts(text):
            if self._breaks(context):
                yield start, match.end()
                start = match.end() if match["next"] is None else match.start("next")
        yield start, len(text.rstrip())

    def _contexts(self, text: str) -> Iterator[tuple[Any, str]]:
        """Yield each candidate with the word that it ends and the text after it; of several in one word the last."""
        before: Any = None
        start = stop = 0  # bounds of the word before the last candidate
        for match in self._candidate.finditer(text):
            space = max(text.rfind(character, stop, match.start()) for character in SPACE) - stop
            word = space + stop + 1 if space > 0 else start
            if before and stop <= word:
                yield before, text[start:stop] + before[0] + before["after"]
            before, start, stop = match, word, match.start()
        if before:
            yield before, text[start:stop] + before[0] + before["after"]

    def _breaks(self, context: str) -> bool:
        """Return whether a token of the context other than the last ends a sentence."""
        lines = context.split("\n")
        tokens = [token for line in lines if line.strip() for token in self._token.findall(line)]
        return any(self._ends_sentence(token, after) for token, after in pairwise(tokens))

    def _with_closing(self, text: str, cuts: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Move closing brackets and quotes from the beginning of a sentence to the end of the previous one."""
        moved = 0
        for (start, stop), (next_start, next_stop) in pairwise(cuts):
            closing = self._closing.match(text[next_start:next_stop])
            yield start + moved, next_start + len(closing[0].rstrip()) if closing else stop
            moved = closing.end() if closing else 0
        start, stop = cuts[-1]
        yield start + moved, stop

    def _ends_sentence(self, token: str, following: str) -> bool:
        """Return whether a token of lower-case text ends a sentence, given the following token."""
        known = parameters()
        breaks = _seems_to_end(token, known)
        if not token.endswith("."):
            return breaks
        kind = self._kind(token).removesuffix(".") or "."
        next_kind = self._kind(following)
        if _seems_to_end(following, known):
            next_kind = next_kind.removesuffix(".") or "."
        if (kind, next_kind) in known.collocations:
            return False
        initial = self._initial.match(token)
        if initial or kind == NUMBER:
            if following in PUNCTUATION or (following[0].islower() and next_kind not in known.lower_case_starters):
                return False
            if initial and following[0].isupper():  # a capital letter without a lower case: U+1D400
                return False
        return breaks

    def _kind(self, token: str) -> str:
        return NUMBER if self._number.match(token) else token.lower()


def _seems_to_end(token: str, known: Parameters) -> bool:
    if token in {".", "?", "!"}:
        return True
    if ELLIPSIS.match(token) or not token.endswith(".") or token.endswith(".."):
        return False
    word = token[:-1].lower()
    return word not in known.abbreviations and word.split("-")[-1] not in known.abbreviations
