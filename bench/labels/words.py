"""A sentence's words, as NLTK's `word_tokenize` cuts them: the rules of the Penn Treebank, and some of NLTK's own.

Source: NLTK (Apache-2.0), `nltk/tokenize/destructive.py`; the rules go back to Robert MacIntyre's sed script of 1995.
Each rule makes room around what is a word of its own; the last step splits at white space.
"""

import re
from types import ModuleType
from typing import NamedTuple, Any


class Rule(NamedTuple):
    """Make room around something."""

    needs: str  # characters without which the rule does nothing
    pattern: str
    replacement: str


OPENING_QUOTES = (
    Rule("", "([«“‘„]|`+)", r" \1 "),
    Rule('"', '^"', "``"),
    Rule("`", "(``)", r" \1 "),
    Rule("", r"([ (\[{<])(\"|'')", r"\1 `` "),
)
# An apostrophe that opens a word. Before NLTK 3.10 only one that opens a single letter.
OPENING_APOSTROPHE = Rule("'", r"(?i)(?<!\w)(')(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)", r"\1 ")
OPENING_LETTER = Rule("'", r"(?i)(')(?!re|ve|ll|m|t|s|d|n)(\w)\b", r"\1 \2")
PUNCTUATION = (
    Rule(".", r"([^.])(\.)([\])}>\"' »”’]*+)\s*$", r"\1 \2 \3 "),  # the period that ends the sentence
    Rule("", r"([:,])([^\d])", r" \1 \2"),
    Rule("", r"([:,])$", r" \1 "),
    Rule(".", r"(\.{2,})", r" \1 "),
    Rule("", r"([;@#$%&])", r" \1 "),
)
DASHES = Rule("", "([\u2012-\u2015])", r" \1 ")  # since NLTK 3.9.3
MORE_PUNCTUATION = (
    Rule("", r"([?!])", r" \1 "),
    Rule("'", r"([^'])' ", r"\1 ' "),
    Rule("*", r"(\*)", r" \1 "),
    Rule("", r"([\]\[(){}<>])", r" \1 "),
    Rule("-", "(--)", r" \1 "),
)
CLOSING_QUOTES = (
    Rule("", "([»”’])", r" \1 "),
    Rule("'", "('')", r" \1 "),
    Rule('"', '"', " '' "),
)
ONE_SPACE = Rule("", r"\s+", " ")  # since NLTK 3.9
CLITICS = (
    Rule("'", r"([^' ])('[sS]|'[mM]|'[dD]|') ", r"\1 \2 "),
    Rule("'", r"([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ", r"\1 \2 "),
)
CONTRACTIONS = (
    Rule("", r"(?i)\b(can(?=not\b)|gim(?=me\b)|gon(?=na\b)|got(?=ta\b)|lem(?=me\b)|wan(?=na\s))(\w+)", r" \1 \2 "),
    Rule("'", r"(?i)\b(d(?='ye\b)|more(?='n\b))('\w+)", r" \1 \2 "),
    Rule("'", r"(?i) ('t)(is|was)\b", r" \1 \2 "),
)


class WordSplitter:
    """Cuts a sentence into words."""

    def __init__(
        self,
        engine: ModuleType,  # re or regex: they differ in what is a letter and what is a space beyond ASCII
        *,
        opening_apostrophe: Rule = OPENING_APOSTROPHE,
        dashes: bool = True,
        one_space: bool = True,
    ) -> None:
        opening = (*OPENING_QUOTES, opening_apostrophe)
        closing = (*CLOSING_QUOTES, *([ONE_SPACE] if one_space else []), *CLITICS)
        self._first = _compiled(engine, *opening, *PUNCTUATION, *([DASHES] if dashes else []), *MORE_PUNCTUATION)
        self._then = _compiled(engine, *closing) + _compiled(re, *CONTRACTIONS)

    def __call__(self, sentence: str) -> list[str]:
        """Return the words of a sentence."""
        return _apply(self._then, f" {_apply(self._first, sentence)} ").split()


def _compiled(engine: ModuleType, *rules: Rule) -> list[tuple[str, Any, str]]:
    return [(needs, engine.compile(pattern), replacement) for needs, pattern, replacement in rules]


def _apply(rules: list[tuple[str, Any, str]], text: str) -> str:
    for needs, pattern, replacement in rules:
        if needs in text:
            text = pattern.sub(replacement, text)
    return text
