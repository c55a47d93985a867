"""A sentence's words, as NLTK's `word_tokenize` cuts them: the rules of the Penn Treebank, and some of NLTK's own.

Source: NLTK (Apache-2.0), `nltk/tokenize/destructive.py`; the rules go back to Robert MacIntyre's sed script of 1995.
Each rule makes room around what is a word of its own; the last step splits at white space.
"""

import re

Rule = tuple[str, re.Pattern[str], str]  # characters without which the rule does nothing, a pattern, a replacement


def _rule(needs: str, pattern: str, replacement: str) -> Rule:
    return needs, re.compile(pattern), replacement


OPENING_QUOTES = (
    _rule("", "([«“‘„]|`+)", r" \1 "),
    _rule('"', '^"', "``"),
    _rule("`", "(``)", r" \1 "),
    _rule("", r"([ (\[{<])(\"|'')", r"\1 `` "),
)
# An apostrophe that opens a word. Before NLTK 3.10 only one that opens a single letter.
OPENING_APOSTROPHE = _rule("'", r"(?i)(?<!\w)(')(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)", r"\1 ")
OPENING_LETTER = _rule("'", r"(?i)(')(?!re|ve|ll|m|t|s|d|n)(\w)\b", r"\1 \2")
PUNCTUATION = (
    _rule(".", r"([^.])(\.)([\])}>\"' »”’]*+)\s*$", r"\1 \2 \3 "),  # the period that ends the sentence
    _rule("", r"([:,])([^\d])", r" \1 \2"),
    _rule("", r"([:,])$", r" \1 "),
    _rule(".", r"(\.{2,})", r" \1 "),
    _rule("", r"([;@#$%&])", r" \1 "),
)
DASHES = _rule("", "([\u2012-\u2015])", r" \1 ")  # since NLTK 3.9.3
MORE_PUNCTUATION = (
    _rule("", r"([?!])", r" \1 "),
    _rule("'", r"([^'])' ", r"\1 ' "),
    _rule("*", r"(\*)", r" \1 "),
    _rule("", r"([\]\[(){}<>])", r" \1 "),
    _rule("-", "(--)", r" \1 "),
)
CLOSING_QUOTES = (
    _rule("", "([»”’])", r" \1 "),
    _rule("'", "('')", r" \1 "),
    _rule('"', '"', " '' "),
)
ONE_SPACE = _rule("", r"\s+", " ")  # since NLTK 3.9
CLITICS = (
    _rule("'", r"([^' ])('[sS]|'[mM]|'[dD]|') ", r"\1 \2 "),
    _rule("'", r"([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ", r"\1 \2 "),
)
CONTRACTIONS = (
    _rule("", r"(?i)\b(can(?=not\b)|gim(?=me\b)|gon(?=na\b)|got(?=ta\b)|lem(?=me\b)|wan(?=na\s))(\w+)", r" \1 \2 "),
    _rule("'", r"(?i)\b(d(?='ye\b)|more(?='n\b))('\w+)", r" \1 \2 "),
    _rule("'", r"(?i) ('t)(is|was)\b", r" \1 \2 "),
)


class WordSplitter:
    """Cuts a sentence into words."""

    def __init__(self, *, opening_apostrophe: Rule = OPENING_APOSTROPHE, dashes: bool = True, one_space: bool = True) -> None:
        self._first = (*OPENING_QUOTES, opening_apostrophe, *PUNCTUATION, *([DASHES] if dashes else []), *MORE_PUNCTUATION)
        self._then = (*CLOSING_QUOTES, *([ONE_SPACE] if one_space else []), *CLITICS, *CONTRACTIONS)

    def __call__(self, sentence: str) -> list[str]:
        """Return the words of a sentence."""
        text = sentence
        for needs, pattern, replacement in self._first:
            if needs in text:
                text = pattern.sub(replacement, text)
        text = f" {text} "
        for needs, pattern, replacement in self._then:
            if needs in text:
                text = pattern.sub(replacement, text)
        return text.split()
