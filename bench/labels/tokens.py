"""Tokens of a caption as the released code computes them with two versions of NLTK's `word_tokenize`.

CatLIP's README asks for NLTK 3.8.1, its setup for 3.8.1 or newer; these tokenise some captions differently. The rules
for words are those of the Penn Treebank and some of NLTK's own: each inserts spaces around a word, and the last step
splits at white space. Source: NLTK (Apache-2.0), `nltk/tokenize/destructive.py`, after Robert MacIntyre's sed script of
1995.

Sentence boundaries are Punkt's for lower-case English, equal to those of NLTK's `sent_tokenize`. Algorithm: Kiss and
Strunk 2006, Computational Linguistics 32(4). Parameters: the pack's `punkt-english.json`. It holds the entries of
NLTK's English model that can affect lower-case text: abbreviations, collocations, and the words that began sentences in
lower case only. The model's sentence starters and the rest of its table of letter cases affect capitalised words alone.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from types import ModuleType
from typing import Any, NamedTuple

import msgspec
import regex

from bench.data.manifest import PACK
from bench.labels.cleaning import clean_caption

REPEATED_MARKS = r"(?:-{2,}|\.{2,}|(?:\.\s){2,}\.)"  # punctuation of several characters: dashes and ellipses
ELLIPSIS = re.compile(r"\.\.+$")
NUMBER = "##number##"  # Punkt's type of every number
PLAIN_MARKS = (";", ":", ",", ".", "!", "?")
SPACE = " \t\n\r\x0b\x0c"


class PunktParameters(msgspec.Struct, frozen=True, dict=True, rename={"lower_case_starters": "lower-case starters"}):
    """Punkt's parameters of a language."""

    abbreviations: frozenset[str]  # without their last period
    collocations: frozenset[tuple[str, str]]  # the words before and after a period
    lower_case_starters: frozenset[str]

    @cached_property
    def before_collocations(self) -> frozenset[str]:
        """The first words of the collocations."""
        return frozenset(first for first, _ in self.collocations)


@cache
def punkt_parameters() -> PunktParameters:
    """Return the shipped parameters, read once per process."""
    return msgspec.json.decode((PACK / "punkt-english.json").read_bytes(), type=PunktParameters)


class SentenceSplitter:
    """Splits a text into sentences; `quotes` are the curly quotes that count as quotes."""

    def __init__(self, engine: ModuleType, quotes: str) -> None:
        not_in_words = rf"""[)";}}\]*:@'({{\[{quotes}?!]"""
        self._candidate = engine.compile(rf"[.?!](?=(?P<after>{not_in_words}|\s+(?P<next>\S+)))")
        self._closing = engine.compile(rf"""["')\]}}{quotes}]+?(?:\s+|(?=--)|$)""", engine.MULTILINE)
        end = rf"\s|$|{not_in_words}|{REPEATED_MARKS}"
        self._initial = engine.compile(r"[^\W\d]\.$")
        self._number = engine.compile(r"-?[.,]?\d[\d,.-]*\.?$")
        self._token = engine.compile(rf"""{REPEATED_MARKS}|(?=[^("`{{\[:;&#*@)}}\]\-,])\S+?(?={end}|,(?={end}))|\S""")

    def __call__(self, text: str) -> list[str]:
        """Return the sentences, without the white space between them."""
        if not self._candidate.search(text):
            return [text.rstrip()]
        return [text[start:stop] for start, stop in self._move_closing(text) if start < stop]

    def always_ends(self, piece: str) -> bool:
        """Return whether a sentence ends after a piece without spaces that ends in a period, whatever follows it."""
        token = self._token.findall(piece)[-1]
        token_type = self._token_type(token).removesuffix(".")
        punkt = punkt_parameters()
        undecided = self._initial.match(token) or token_type == NUMBER or token_type in punkt.before_collocations
        return token.endswith(".") and _seems_to_end_sentence(token, punkt) and not undecided

    def _find_sentences(self, text: str) -> Iterator[tuple[int, int]]:
        start = 0
        for match, context in self._find_contexts(text):
            if self._has_sentence_end(context):
                yield start, match.end()
                start = match.end() if match["next"] is None else match.start("next")
        yield start, len(text.rstrip())

    def _find_contexts(self, text: str) -> Iterator[tuple[Any, str]]:
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

    def _has_sentence_end(self, context: str) -> bool:
        """Return whether a token of the context other than the last ends a sentence."""
        lines = context.split("\n")
        tokens = [token for line in lines if line.strip() for token in self._token.findall(line)]
        return any(self._ends_sentence(token, after) for token, after in pairwise(tokens))

    def _move_closing(self, text: str) -> Iterator[tuple[int, int]]:
        """Move closing brackets and quotes from the beginning of a sentence to the end of the previous one."""
        moved, bounds = 0, list(self._find_sentences(text))
        for (start, stop), (next_start, next_stop) in pairwise(bounds):
            closing = self._closing.match(text[next_start:next_stop])
            yield start + moved, next_start + len(closing[0].rstrip()) if closing else stop
            moved = closing.end() if closing else 0
        start, stop = bounds[-1]
        yield start + moved, stop

    def _ends_sentence(self, token: str, following: str) -> bool:
        """Return whether a token of lower-case text ends a sentence, given the following token."""
        punkt = punkt_parameters()
        breaks = _seems_to_end_sentence(token, punkt)
        if not token.endswith("."):
            return breaks
        token_type = self._token_type(token).removesuffix(".") or "."
        next_type = self._token_type(following)
        if _seems_to_end_sentence(following, punkt):
            next_type = next_type.removesuffix(".") or "."
        if (token_type, next_type) in punkt.collocations:
            return False
        initial = self._initial.match(token)
        if initial or token_type == NUMBER:
            if following in PLAIN_MARKS or (following[0].islower() and next_type not in punkt.lower_case_starters):
                return False
            if initial and following[0].isupper():  # a capital letter without a lower case: U+1D400
                return False
        return breaks

    def _token_type(self, token: str) -> str:
        return NUMBER if self._number.match(token) else token.lower()


def _seems_to_end_sentence(token: str, punkt: PunktParameters) -> bool:
    if token in {".", "?", "!"}:
        return True
    if ELLIPSIS.match(token) or not token.endswith(".") or token.endswith(".."):
        return False
    word = token[:-1].lower()
    return word not in punkt.abbreviations and word.split("-")[-1] not in punkt.abbreviations


class Substitution(NamedTuple):
    """A substitution that inserts spaces."""

    needs: str  # the rule is skipped if the text has none of these characters; empty: never skipped
    pattern: str
    replacement: str


OPENING_QUOTES = (
    Substitution("«“‘„`", "([«“‘„]|`+)", r" \1 "),
    Substitution('"', '^"', "``"),
    Substitution("`", "(``)", r" \1 "),
    Substitution("\"'", r"([ (\[{<])(\"|'')", r"\1 `` "),
)
# An apostrophe at the beginning of a word; before NLTK 3.10 only of a single letter.
OPENING_APOSTROPHE = Substitution("'", r"(?i)(?<!\w)(')(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)", r"\1 ")
OPENING_LETTER = Substitution("'", r"(?i)(')(?!re|ve|ll|m|t|s|d|n)(\w)\b", r"\1 \2")
PUNCTUATION = (
    Substitution(".", r"([^.])(\.)([\])}>\"' »”’]*+)\s*$", r"\1 \2 \3 "),  # the period that ends the sentence
    Substitution(":,", r"([:,])([^\d])", r" \1 \2"),
    Substitution(":,", r"([:,])$", r" \1 "),
    Substitution(".", r"(\.{2,})", r" \1 "),
    Substitution(";@#$%&", r"([;@#$%&])", r" \1 "),
)
DASHES = Substitution("\u2012\u2013\u2014\u2015", "([\u2012-\u2015])", r" \1 ")  # since NLTK 3.9.3
MORE_PUNCTUATION = (
    Substitution("?!", r"([?!])", r" \1 "),
    Substitution("'", r"([^'])' ", r"\1 ' "),
    Substitution("*", r"(\*)", r" \1 "),
    Substitution("[](){}<>", r"([\]\[(){}<>])", r" \1 "),
    Substitution("-", "(--)", r" \1 "),
)
CLOSING_QUOTES = (
    Substitution("»”’", "([»”’])", r" \1 "),
    Substitution("'", "('')", r" \1 "),
    Substitution('"', '"', " '' "),
)
ONE_SPACE = Substitution("'", r"\s+", " ")  # since NLTK 3.9; affects only the clitics
CLITICS = (
    Substitution("'", r"([^' ])('[sS]|'[mM]|'[dD]|') ", r"\1 \2 "),
    Substitution("'", r"([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ", r"\1 \2 "),
)
CONTRACTIONS = (
    Substitution(
        "", r"(?i)\b(can(?=not\b)|gim(?=me\b)|gon(?=na\b)|got(?=ta\b)|lem(?=me\b)|wan(?=na\s))(\w+)", r" \1 \2 "
    ),
    Substitution("'", r"(?i)\b(d(?='ye\b)|more(?='n\b))('\w+)", r" \1 \2 "),
    Substitution("'", r"(?i) ('t)(is|was)\b", r" \1 \2 "),
)


class WordSplitter:
    """Splits a sentence into words."""

    def __init__(self, engine: ModuleType, *, as_nltk_3_8: bool = False) -> None:
        """Compile the rules with re or regex, which differ in non-ASCII letters and spaces."""
        opening, dashes = (OPENING_LETTER, ()) if as_nltk_3_8 else (OPENING_APOSTROPHE, (DASHES,))
        first = (*OPENING_QUOTES, opening, *PUNCTUATION, *dashes, *MORE_PUNCTUATION)
        then = (*CLOSING_QUOTES, *CLITICS) if as_nltk_3_8 else (*CLOSING_QUOTES, ONE_SPACE, *CLITICS)
        contractions = _compile_substitutions(re, CONTRACTIONS)
        self._unicode = _compile_substitutions(engine, first), _compile_substitutions(engine, then) + contractions
        # equal for ASCII, and faster
        self._ascii = _compile_substitutions(re, first), _compile_substitutions(re, then) + contractions

    def __call__(self, sentence: str) -> list[str]:
        first, then = self._ascii if sentence.isascii() else self._unicode
        characters = set(sentence)
        if '"' in characters:
            characters |= {"'", "`"}  # replacements of the quotes
        return _substitute(then, f" {_substitute(first, sentence, characters)} ", characters).split()


def _compile_substitutions(engine: ModuleType, rules: Iterable[Substitution]) -> list[tuple[frozenset[str], Any, str]]:
    return [(frozenset(rule.needs), engine.compile(rule.pattern), rule.replacement) for rule in rules]


def _substitute(rules: list[tuple[frozenset[str], Any, str]], text: str, characters: set[str]) -> str:
    for needs, pattern, replacement in rules:
        if not needs or not needs.isdisjoint(characters):
            text = pattern.sub(replacement, text)
    return text


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """`word_tokenize`, and the lemmatisation of unknown words, of a version of NLTK."""

    sentences: SentenceSplitter
    words: WordSplitter
    detach_again: bool
    spaces_only: bool  # white space other than spaces separates words differently

    def __call__(self, caption: str) -> list[str]:
        """Clean a caption and return its tokens."""
        return self.split(clean_caption(caption))

    def split(self, text: str) -> list[str]:
        return [word for sentence in self.sentences(text) for word in self.words(sentence)]


# NLTK 3.10 compiles its patterns with the package regex, whose non-ASCII letters and spaces differ from those of re.
NLTK_3_10 = Tokenizer(SentenceSplitter(regex, "‘’“”«»"), WordSplitter(regex), detach_again=False, spaces_only=False)
# 3.8.1: curly quotes and guillemets end no word before a sentence end, an apostrophe is split off single letters only,
# dashes stay in words, a clitic is split off before a space only, and suffixes are detached until a noun is found.
NLTK_3_8 = Tokenizer(SentenceSplitter(re, ""), WordSplitter(re, as_nltk_3_8=True), detach_again=True, spaces_only=True)
