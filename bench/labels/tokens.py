"""Tokens of a caption as the released code computes them with the `word_tokenize` of NLTK 3.10.

The rules for words are the rules of the Penn Treebank and some of NLTK's own. Each rule inserts spaces around a word,
and the last step splits at white space. Source: NLTK (Apache-2.0), `nltk/tokenize/destructive.py`, after
Robert MacIntyre's sed script of 1995.

Sentence boundaries are Punkt's for lower-case English, equal to NLTK's `sent_tokenize`. Algorithm: Kiss and Strunk
2006, Computational Linguistics 32(4). The pack's `punkt-english.json` has the parameters: the entries of NLTK's English
model that can affect lower-case text, which are abbreviations, collocations, and words that began sentences in lower
case only. The model's sentence starters and the rest of its table of letter cases affect capitalised words alone.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import pairwise
from types import ModuleType
from typing import Any, NamedTuple

import msgspec
import regex

from bench.data.manifest import PACK
from bench.labels.cleaning import clean_caption_like_corenet

# Punctuation of several characters: dashes and ellipses.
REPEATED_MARKS = r"(?:-{2,}|\.{2,}|(?:\.\s){2,}\.)"
ELLIPSIS = re.compile(r"\.\.+$")
NUMBER = "##number##"  # Punkt's type of every number
PLAIN_MARKS = (";", ":", ",", ".", "!", "?")
SPACES = " \t\n\r\x0b\x0c"

# NLTK 3.10 compiles its patterns with the package regex, whose non-ASCII letters and spaces differ from re's.
QUOTES = "‘’“”«»"
NOT_IN_WORDS = rf"""[)";}}\]*:@'({{\[{QUOTES}?!]"""
TOKEN_END = rf"\s|$|{NOT_IN_WORDS}|{REPEATED_MARKS}"
SENTENCE_END_CANDIDATE = regex.compile(rf"[.?!](?=(?P<after>{NOT_IN_WORDS}|\s+(?P<next>\S+)))")
CLOSING_MARKS = regex.compile(rf"""["')\]}}{QUOTES}]+?(?:\s+|(?=--)|$)""", regex.MULTILINE)
INITIAL = regex.compile(r"[^\W\d]\.$")
NUMERAL = regex.compile(r"-?[.,]?\d[\d,.-]*\.?$")
PUNKT_TOKEN = regex.compile(
    rf"""{REPEATED_MARKS}|(?=[^("`{{\[:;&#*@)}}\]\-,])\S+?(?={TOKEN_END}|,(?={TOKEN_END}))|\S"""
)


class PunktParameters(
    msgspec.Struct, frozen=True, rename={"lower_case_starters": "lower-case starters"}
):
    """Punkt's parameters of a language."""

    abbreviations: frozenset[str]  # without their last period
    collocations: frozenset[tuple[str, str]]  # the words before and after a period
    lower_case_starters: frozenset[str]


@cache
def get_punkt_parameters() -> PunktParameters:
    """Return the shipped parameters of Punkt for English, read once per process."""
    return msgspec.json.decode((PACK / "punkt-english.json").read_bytes(), type=PunktParameters)


@cache
def _first_words_of_collocations() -> frozenset[str]:
    return frozenset(first for first, _ in get_punkt_parameters().collocations)


def clean_and_tokenize(caption: str) -> list[str]:
    """Clean a caption and return its tokens."""
    return split_into_nltk_words(clean_caption_like_corenet(caption))


def split_into_nltk_words(clean_caption: str) -> list[str]:
    """Return the words of a caption that `clean_caption_like_corenet` cleaned, as NLTK's `word_tokenize` splits it."""
    tokens = []
    for sentence in split_sentences(clean_caption):
        tokens += split_words(sentence)
    return tokens


def split_sentences(text: str) -> list[str]:
    """Split a text into sentences, without the white space between them."""
    if not SENTENCE_END_CANDIDATE.search(text):
        return [text.rstrip()]
    return [text[start:stop] for start, stop in _sentence_bounds(text) if start < stop]


def _sentence_bounds(text: str) -> Iterator[tuple[int, int]]:
    """Yield start and end of each sentence, closing brackets and quotes included."""
    bounds = list(_sentence_bounds_before_closing_marks(text))
    moved = 0  # characters at the beginning of the sentence that belong to the one before
    for (start, stop), (next_start, next_stop) in pairwise(bounds):
        closing = CLOSING_MARKS.match(text[next_start:next_stop])
        if closing:
            yield start + moved, next_start + len(closing[0].rstrip())
            moved = closing.end()
        else:
            yield start + moved, stop
            moved = 0
    start, stop = bounds[-1]
    yield start + moved, stop


def _sentence_bounds_before_closing_marks(text: str) -> Iterator[tuple[int, int]]:
    """Yield start and end of each sentence, where closing marks after a sentence's end begin the next one."""
    start = 0
    for match, context in _iterate_sentence_end_candidates(text):
        if _has_inner_sentence_end(context):
            yield start, match.end()
            start = match.end() if match["next"] is None else match.start("next")
    yield start, len(text.rstrip())


def _iterate_sentence_end_candidates(text: str) -> Iterator[tuple[Any, str]]:
    """Yield the match of each candidate of a sentence's end, and the word that it ends with the text after it.

    Of several candidates in a word it is the last one.
    """
    last: Any = None
    start = 0  # bounds of the word before the last candidate
    stop = 0
    for match in SENTENCE_END_CANDIDATE.finditer(text):
        space = max(text.rfind(character, stop, match.start()) for character in SPACES)
        # As in NLTK, a space at the beginning of the text begins no word.
        word_start = space + 1 if space > stop else start
        if last and stop <= word_start:
            yield last, text[start:stop] + last[0] + last["after"]
        last = match
        start = word_start
        stop = match.start()
    if last:
        yield last, text[start:stop] + last[0] + last["after"]


def _has_inner_sentence_end(context: str) -> bool:
    """Return whether a sentence ends within a context: at a token other than the last."""
    tokens: list[str] = []
    for line in context.split("\n"):
        if line.strip():
            tokens += PUNKT_TOKEN.findall(line)
    return any(_punkt_ends_sentence(token, following) for token, following in pairwise(tokens))


def _punkt_ends_sentence(token: str, following: str) -> bool:
    """Return whether Punkt ends a sentence after a token of lower-case text, given the following token."""
    seems_to_end = _seems_to_end_sentence(token)
    if not token.endswith("."):
        return seems_to_end
    punkt = get_punkt_parameters()
    token_type = _punkt_token_type(token).removesuffix(".") or "."
    next_type = _punkt_token_type(following)
    if _seems_to_end_sentence(following):
        next_type = next_type.removesuffix(".") or "."
    if (token_type, next_type) in punkt.collocations:
        return False
    is_initial = INITIAL.match(token)
    if is_initial or token_type == NUMBER:
        if following in PLAIN_MARKS:
            return False
        if following[0].islower() and next_type not in punkt.lower_case_starters:
            return False
    if is_initial and following[0].isupper():  # a capital letter without a lower case: U+1D400
        return False
    return seems_to_end


def always_ends_sentence(piece: str) -> bool:
    """Return whether a sentence ends after a piece without spaces that ends in a period, whatever follows it.

    If so, `_punkt_ends_sentence` is true of the piece's last token for every following token. The converse does not
    hold: false is returned for every token of which the following token may decide.
    """
    token = PUNKT_TOKEN.findall(piece)[-1]
    if not token.endswith(".") or not _seems_to_end_sentence(token):
        return False
    token_type = _punkt_token_type(token).removesuffix(".")
    if INITIAL.match(token) or token_type == NUMBER:
        return False
    return token_type not in _first_words_of_collocations()


def _punkt_token_type(token: str) -> str:
    return NUMBER if NUMERAL.match(token) else token.lower()


def _seems_to_end_sentence(token: str) -> bool:
    """Return whether a token ends a sentence by itself: a mark, or a word with a period that is no abbreviation."""
    if token in {".", "?", "!"}:
        return True
    if ELLIPSIS.match(token) or not token.endswith(".") or token.endswith(".."):
        return False
    abbreviations = get_punkt_parameters().abbreviations
    word = token[:-1].lower()
    return word not in abbreviations and word.split("-")[-1] not in abbreviations


class SpacingRule(NamedTuple):
    """A rule that inserts spaces around tokens: the replacement of a pattern."""

    # Skipped if the text has none of these characters; empty: never skipped.
    needs: frozenset[str]
    pattern: Any
    replacement: str


def _compile_spacing_rule(
    needed_characters: str, pattern: str, replacement: str, engine: ModuleType = regex
) -> SpacingRule:
    """Compile a rule; NLTK reads the patterns of contractions with re, and all others with regex."""
    return SpacingRule(frozenset(needed_characters), engine.compile(pattern), replacement)


# Rules for a sentence, in their order.
SENTENCE_RULES = (
    # opening quotes
    _compile_spacing_rule("«“‘„`", "([«“‘„]|`+)", r" \1 "),
    _compile_spacing_rule('"', '^"', "``"),
    _compile_spacing_rule("`", "(``)", r" \1 "),
    _compile_spacing_rule("\"'", r"([ (\[{<])(\"|'')", r"\1 `` "),
    # an apostrophe at the beginning of a word
    _compile_spacing_rule("'", r"(?i)(?<!\w)(')(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)", r"\1 "),
    # punctuation; the first rule is for the period that ends the sentence
    _compile_spacing_rule(".", r"([^.])(\.)([\])}>\"' »”’]*+)\s*$", r"\1 \2 \3 "),
    _compile_spacing_rule(":,", r"([:,])([^\d])", r" \1 \2"),
    _compile_spacing_rule(":,", r"([:,])$", r" \1 "),
    _compile_spacing_rule(".", r"(\.{2,})", r" \1 "),
    _compile_spacing_rule(";@#$%&", r"([;@#$%&])", r" \1 "),
    _compile_spacing_rule("\u2012\u2013\u2014\u2015", "([\u2012-\u2015])", r" \1 "),
    _compile_spacing_rule("?!", r"([?!])", r" \1 "),
    _compile_spacing_rule("'", r"([^'])' ", r"\1 ' "),
    _compile_spacing_rule("*", r"(\*)", r" \1 "),
    _compile_spacing_rule("[](){}<>", r"([\]\[(){}<>])", r" \1 "),
    _compile_spacing_rule("-", "(--)", r" \1 "),
)
# Rules for the sentence with a space before and after it, in their order.
PADDED_RULES = (
    # closing quotes
    _compile_spacing_rule("»”’", "([»”’])", r" \1 "),
    _compile_spacing_rule("'", "('')", r" \1 "),
    _compile_spacing_rule('"', '"', " '' "),
    # clitics, which need single spaces
    _compile_spacing_rule("'", r"\s+", " "),
    _compile_spacing_rule("'", r"([^' ])('[sS]|'[mM]|'[dD]|') ", r"\1 \2 "),
    _compile_spacing_rule("'", r"([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ", r"\1 \2 "),
    # contractions
    _compile_spacing_rule(
        "",
        r"(?i)\b(can(?=not\b)|gim(?=me\b)|gon(?=na\b)|got(?=ta\b)|lem(?=me\b)|wan(?=na\s))(\w+)",
        r" \1 \2 ",
        re,
    ),
    _compile_spacing_rule("'", r"(?i)\b(d(?='ye\b)|more(?='n\b))('\w+)", r" \1 \2 ", re),
    _compile_spacing_rule("'", r"(?i) ('t)(is|was)\b", r" \1 \2 ", re),
)


def split_words(sentence: str) -> list[str]:
    """Split a sentence into words."""
    characters = set(sentence)
    if '"' in characters:
        characters |= {"'", "`"}  # replacements of the quotes
    text = _apply_rules(SENTENCE_RULES, sentence, characters)
    return _apply_rules(PADDED_RULES, f" {text} ", characters).split()


def _apply_rules(rules: Iterable[SpacingRule], text: str, characters: set[str]) -> str:
    for needs, pattern, replacement in rules:
        if not needs or not needs.isdisjoint(characters):
            text = pattern.sub(replacement, text)
    return text
