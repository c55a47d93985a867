"""Tokens of a caption as the released code computes them, with two versions of NLTK.

CatLIP's README asks for NLTK 3.8.1, its setup for 3.8.1 or newer; these tokenise some captions differently.
"""

import re
from dataclasses import dataclass

import regex

from bench.labels.cleaning import clean
from bench.labels.sentences import SentenceSplitter
from bench.labels.words import OPENING_LETTER, WordSplitter


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
        """Return the tokens of a clean caption."""
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
