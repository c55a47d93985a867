"""Captions to WordNet noun synsets, by the rule of CatLIP's released code.

The rule (apple/corenet, `wordnet_tagged_classification.py`): lower-case, tokenise, lemmatise every token as a noun,
keep it when WordNet's synset `{lemma}.n.01` exists under exactly that name. It computes part-of-speech tags and does
not use them; the paper keeps tagged nouns. Tokens are runs of letters and digits here, joined by hyphens and
apostrophes; NLTK's tokeniser differs on contractions.
"""

import gzip
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from bench.data.manifest import PACK

WORD = re.compile(r"[a-z0-9]+(?:[-'][a-z0-9]+)*")
# WordNet's detachment rules for nouns (morphy), in its order.
DETACHMENTS = (
    ("s", ""),
    ("ses", "s"),
    ("ves", "f"),
    ("xes", "x"),
    ("zes", "z"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("men", "man"),
    ("ies", "y"),
)


class Lexicon:
    """WordNet 3.0's single-word nouns: which words are lemmas, and the synset that each heads, if any."""

    def __init__(self, folder: Path = PACK) -> None:
        self.synset_of: dict[str, str] = {}  # lemma -> "n<offset>", only where its first synset bears its name
        self.lemmas: set[str] = set()
        for lemma, *offset in _rows(folder / "wordnet30-nouns.tsv.gz"):
            self.lemmas.add(lemma)
            if offset:
                self.synset_of[lemma] = f"n{offset[0]}"
        self.exceptions = {word: bases.split() for word, bases in _rows(folder / "wordnet30-noun-exc.tsv.gz")}
        self._labels: dict[str, str | None] = {}

    def lemma(self, word: str) -> str:
        """Return the noun lemma of a lower-case word: the shortest that WordNet's morphy finds, or the word itself."""
        if word in self.exceptions:
            found = self._known([word, *self.exceptions[word]])
        else:
            forms = _detached([word])
            found = self._known([word, *forms])
            while not found and forms:
                forms = _detached(forms)
                found = self._known(forms)
        return min(found, key=len) if found else word

    def labels(self, caption: str) -> tuple[str, ...]:
        """Return the caption's synsets, each once, in the order of their first mention."""
        found = (self._label(word) for word in WORD.findall(caption.lower()))
        return tuple(dict.fromkeys(label for label in found if label))

    def _label(self, word: str) -> str | None:
        if word not in self._labels:
            self._labels[word] = self.synset_of.get(self.lemma(word))
        return self._labels[word]

    def _known(self, forms: list[str]) -> list[str]:
        return [form for form in dict.fromkeys(forms) if form in self.lemmas]


@cache
def lexicon() -> Lexicon:
    """Return the shipped lexicon, read once a process."""
    return Lexicon()


def _detached(forms: list[str]) -> list[str]:
    return [form[: -len(end)] + base for form in forms for end, base in DETACHMENTS if form.endswith(end)]


def _rows(path: Path) -> Iterator[list[str]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield line.rstrip("\n").split("\t")
