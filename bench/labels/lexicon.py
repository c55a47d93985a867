"""WordNet 3.0's nouns: the lemma of a word and the synset of a lemma. Reads two shipped tables; NLTK is not needed."""

import gzip
import lzma
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path

from bench.data.manifest import PACK

# WordNet's detachment rules for nouns (morphy(7WN)), in its order.
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
NOT_A_LABEL = -1


class Lexicon:
    """All nouns of WordNet 3.0, single words and compounds (`hot_dog`), and the synsets that can be labels.

    A synset can be a label if it has its lemma's name: it is the lemma's first (most frequent) synset and the lemma is
    that synset's first word, so that `wn.synset("{lemma}.n.01").name()` equals that string. Labels are numbered in the
    order of their lemmas.
    """

    def __init__(self, folder: Path = PACK) -> None:
        self.label_of: dict[str, int] = {}  # all noun lemmas; NOT_A_LABEL if no synset has the lemma's name
        self.lemmas: list[str] = []
        self.keys: list[str] = []  # "n<offset>" without leading zeros, as in CatLIP's released vocabulary
        for lemma, *offset in rows_of(folder / "wordnet30-nouns.tsv.gz"):
            self.label_of[lemma] = len(self.keys) if offset else NOT_A_LABEL
            if offset:
                self.keys.append(f"n{offset[0]}")
                self.lemmas.append(lemma)
        self.exceptions = {word: bases.split() for word, bases in rows_of(folder / "wordnet30-noun-exc.tsv.gz")}
        self._folder = folder

    def lemma(self, word: str, *, detach_again: bool = False) -> str:
        """Return the noun lemma of a lower-case word: the shortest known to WordNet, or the word itself.

        Source: NLTK 3.10's `WordNetLemmatizer`. Candidates are the word and its irregular bases or, if it has none, the
        results of one detachment. NLTK 3.8 (`detach_again`) repeats the detachment until a candidate is known.
        """
        if word in self.exceptions:
            bases = self.exceptions[word]
            detach_again = False
        elif word.endswith(("s", "men")):
            bases = _detach_suffixes([word])
        else:
            return word
        known = [form for form in (word, *bases) if form in self.label_of]
        while detach_again and bases and not known:
            bases = _detach_suffixes(bases)
            known = [form for form in bases if form in self.label_of]
        return min(known, key=len) if known else word

    def synset_of(self, lemma: str) -> str | None:
        """Return the key of the synset with the lemma's name; None if there is none."""
        label = self.label_of.get(lemma, NOT_A_LABEL)
        return None if label == NOT_A_LABEL else self.keys[label]

    def title(self, label: int) -> str:
        """Return a synset's name: `dog.n.01`."""
        return f"{self.lemmas[label]}.n.01"

    def gloss(self, label: int) -> str:
        """Return WordNet's definition of a synset; the first call reads the table of glosses (60 ms)."""
        return self._glosses[self.keys[label]]

    @cached_property
    def _glosses(self) -> dict[str, str]:
        return {f"n{offset}": gloss for offset, gloss in rows_of(self._folder / "wordnet30-glosses.tsv.xz")}


@cache
def lexicon() -> Lexicon:
    """Return the shipped lexicon, read once per process."""
    return Lexicon()


def _detach_suffixes(forms: list[str]) -> list[str]:
    return [form[: -len(end)] + base for form in forms for end, base in DETACHMENTS if form.endswith(end)]


def rows_of(path: Path) -> Iterator[list[str]]:
    """Yield the fields of each line of a .tsv.gz or .tsv.xz file."""
    decompress = gzip.decompress if path.suffix == ".gz" else lzma.decompress
    return (line.split("\t") for line in decompress(path.read_bytes()).decode().split("\n"))
