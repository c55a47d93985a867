"""A caption's tokens as the released code sees them, for two versions of the NLTK that it calls.

CatLIP's README asks for NLTK 3.8.1, its setup for 3.8.1 or newer; they cut some captions differently.
"""

import re
from dataclasses import dataclass

import regex

from bench.labels.cleaning import clean
from bench.labels.sentences import SentenceSplitter
from bench.labels.words import OPENING_LETTER, WordSplitter


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """`word_tokenize` and what `WordNetLemmatizer` does with an unknown word, of a version of NLTK."""

    sentences: SentenceSplitter
    words: WordSplitter
    detach_again: bool
    spaces_only: bool  # other white space than spaces is not the same as spaces

    def __call__(self, caption: str) -> list[str]:
        """Clean a caption and cut it into tokens."""
        return self.cut(clean(caption))

    def cut(self, text: str) -> list[str]:
        """Cut a clean caption into tokens."""
        return [word for sentence in self.sentences(text) for word in self.words(sentence)]


# NLTK 3.10 has its patterns read by the package regex, whose letters and spaces beyond ASCII are not re's.
NLTK_3_10 = Tokenizer(SentenceSplitter(regex, "‘’“”«»"), WordSplitter(regex), detach_again=False, spaces_only=False)
# 3.8.1: curly quotes and guillemets end no word before a sentence's end, an apostrophe is cut off single letters only,
# dashes stay in words, a clitic is cut off before a space only, and suffixes are detached until a noun is found.
NLTK_3_8 = Tokenizer(
    SentenceSplitter(re, ""),
    WordSplitter(re, opening_apostrophe=OPENING_LETTER, dashes=False, one_space=False),
    detach_again=True,
    spaces_only=True,
)
