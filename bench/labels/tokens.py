"""Tokens of a caption as the released code computes them with two versions of NLTK's `word_tokenize`.

CatLIP's README asks for NLTK 3.8.1, its setup for 3.8.1 or newer; these tokenise some captions differently. The rules
for words are those of the Penn Treebank and some of NLTK's own: each inserts spaces around a word, and the last step
splits at white space. Source: NLTK (Apache-2.0), `nltk/tokenize/destructive.py`, after Robert MacIntyre's sed script of
1995.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import regex

from bench.labels.cleaning import clean
from bench.labels.sentences import SentenceSplitter


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

    def __init__(
        self,
        engine: ModuleType,  # re or regex, which differ in non-ASCII letters and spaces
        *,
        opening_apostrophe: Substitution = OPENING_APOSTROPHE,
        dashes: bool = True,
        one_space: bool = True,
    ) -> None:
        first = (*OPENING_QUOTES, opening_apostrophe, *PUNCTUATION, *([DASHES] if dashes else []), *MORE_PUNCTUATION)
        then = (*CLOSING_QUOTES, *([ONE_SPACE] if one_space else []), *CLITICS)
        self._any = _compiled(engine, first), _compiled(engine, then) + _compiled(re, CONTRACTIONS)
        self._ascii = _compiled(re, first), _compiled(re, (*then, *CONTRACTIONS))  # equal for ASCII, and faster

    def __call__(self, sentence: str) -> list[str]:
        first, then = self._ascii if sentence.isascii() else self._any
        characters = set(sentence)
        if '"' in characters:
            characters |= {"'", "`"}  # replacements of the quotes
        return _apply(then, f" {_apply(first, sentence, characters)} ", characters).split()


def _compiled(engine: ModuleType, rules: Iterable[Substitution]) -> list[tuple[frozenset[str], Any, str]]:
    return [(frozenset(rule.needs), engine.compile(rule.pattern), rule.replacement) for rule in rules]


def _apply(rules: list[tuple[frozenset[str], Any, str]], text: str, characters: set[str]) -> str:
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
        return self.cut(clean(caption))

    def cut(self, text: str) -> list[str]:
        return [word for sentence in self.sentences(text) for word in self.words(sentence)]


# NLTK 3.10 compiles its patterns with the package regex, whose non-ASCII letters and spaces differ from those of re.
NLTK_3_10 = Tokenizer(SentenceSplitter(regex, "‘’“”«»"), WordSplitter(regex), detach_again=False, spaces_only=False)
# 3.8.1: curly quotes and guillemets end no word before a sentence end, an apostrophe is split off single letters only,
# dashes stay in words, a clitic is split off before a space only, and suffixes are detached until a noun is found.
NLTK_3_8 = Tokenizer(
    SentenceSplitter(re, ""),
    WordSplitter(re, opening_apostrophe=OPENING_LETTER, dashes=False, one_space=False),
    detach_again=True,
    spaces_only=True,
)
