"""WordNet 3.0's nouns: lemmas of words, synsets of lemmas, their hypernyms and path similarity, synsets of class names.

Reads the shipped tables; NLTK is not needed.
"""

import gzip
import lzma
import re
from collections.abc import Iterable, Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

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
WORDNET_ID = re.compile(r"n\d{8}")  # class names of ImageNet
NOT_NOUNS = {"and", "or", "of", "the", "a", "in", "with", "other"}


class Lexicon:
    """All nouns of WordNet 3.0, single words and compounds (`hot_dog`), and the synsets that can be labels.

    A synset can be a label if it has its lemma's name: it is the lemma's first (most frequent) synset and the lemma is
    that synset's first word, so that `wn.synset("{lemma}.n.01").name()` equals that string. Labels are numbered in the
    order of their lemmas.
    """

    def __init__(self) -> None:
        self.label_of: dict[str, int] = {}  # all noun lemmas; NOT_A_LABEL if no synset has the lemma's name
        self.lemmas: list[str] = []
        self.keys: list[str] = []  # "n<offset>" without leading zeros, as in CatLIP's released vocabulary
        for lemma, *offset in read_tsv(PACK / "wordnet30-nouns.tsv.gz"):
            self.label_of[lemma] = len(self.keys) if offset else NOT_A_LABEL
            if offset:
                self.keys.append(f"n{offset[0]}")
                self.lemmas.append(lemma)
        self.exceptions = {word: bases.split() for word, bases in read_tsv(PACK / "wordnet30-noun-exc.tsv.gz")}

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
        return {f"n{offset}": gloss for offset, gloss in read_tsv(PACK / "wordnet30-glosses.tsv.xz")}


lexicon = cache(Lexicon)  # read once per process


def _detach_suffixes(forms: list[str]) -> list[str]:
    return [form[: -len(end)] + base for form in forms for end, base in DETACHMENTS if form.endswith(end)]


def read_tsv(path: Path) -> Iterator[list[str]]:
    """Yield the fields of each line of a .tsv.gz or .tsv.xz file."""
    decompress = gzip.decompress if path.suffix == ".gz" else lzma.decompress
    return (line.split("\t") for line in decompress(path.read_bytes()).decode().split("\n"))


class NearestSynset(NamedTuple):
    """The most similar of several synsets, and the path to it."""

    key: str
    similarity: float  # NLTK's `Synset.path_similarity`: 1 / (1 + steps) of the path
    path: tuple[str, ...]  # names from the given synset over the common hypernym to this one


class Hypernyms:
    """All noun synsets by key (`n2084071`) with their direct hypernyms, including those of instances."""

    def __init__(self) -> None:
        self.above: dict[str, tuple[str, ...]] = {}
        self.names: dict[str, str] = {}
        for offset, above, *name in read_tsv(PACK / "wordnet30-hypernyms.tsv.xz"):
            self.above[f"n{offset}"] = tuple(f"n{each}" for each in above.split())
            if name:
                self.names[f"n{offset}"] = name[0]
        without = (lemma for lemma, label in lexicon().label_of.items() if label == NOT_A_LABEL)
        senses = (f"n{offset}" for (offset,) in read_tsv(PACK / "wordnet30-senses.tsv.xz"))
        self._first = dict(zip(without, senses, strict=True))
        self.names |= {key: f"{lemma}.n.01" for lemma, key in zip(lexicon().lemmas, lexicon().keys, strict=True)}

    def most_frequent_synset(self, lemma: str) -> str | None:
        """Return the most frequent synset of a noun lemma, whether or not it has the lemma's name."""
        return lexicon().synset_of(lemma) or self._first.get(lemma)

    def distances(self, key: str) -> dict[str, int]:
        """Return a synset and all of its hypernyms, with the fewest steps up to each."""
        found, rank, steps = {key: 0}, [key], 0
        while rank:
            steps += 1
            rank = list(dict.fromkeys(up for below in rank for up in self.above[below] if up not in found))
            found |= dict.fromkeys(rank, steps)
        return found

    def path(self, start: str, end: str) -> tuple[str, ...]:
        """Return the names on a shortest path between two synsets."""
        ups, downs = self.distances(start), self.distances(end)
        shared = min(ups.keys() & downs.keys(), key=lambda key: (ups[key] + downs[key], ups[key], key))
        climb, descent = self._shortest_climb(start, shared), self._shortest_climb(end, shared)[-2::-1]
        return tuple(self.names[key] for key in (*climb, *descent))

    def _shortest_climb(self, key: str, top: str) -> list[str]:
        """Return a shortest path up to a hypernym, both ends included."""
        if key == top:
            return [key]
        steps = {up: count for up in self.above[key] if (count := self.distances(up).get(top)) is not None}
        return [key, *self._shortest_climb(min(steps, key=lambda up: (steps[up], up)), top)]


class SynsetCandidates:
    """Candidate synsets in an order: of equally similar ones the first is taken."""

    def __init__(self, keys: Iterable[str], tree: Hypernyms) -> None:
        self._tree = tree
        self._below: dict[str, tuple[int, int, str]] = {}  # nearest candidate below a hypernym: steps down, index, key
        for index, key in enumerate(keys):
            for above, steps in tree.distances(key).items() if key in tree.above else ():
                found = steps, index, key
                self._below[above] = min(self._below.get(above, found), found)

    def nearest(self, key: str) -> NearestSynset:
        """Return the candidate of the highest similarity to a synset."""
        steps, _, found = min(
            (up + below[0], below[1], below[2])
            for above, up in self._tree.distances(key).items()
            if (below := self._below.get(above)) is not None
        )
        return NearestSynset(found, 1 / (1 + steps), self._tree.path(key, found))


hypernyms = cache(Hypernyms)  # read once per process


def synset_keys_of_class_name(name: str) -> tuple[str, ...]:
    """Return the keys of the synsets that a class name means; none if WordNet has no such noun.

    A WordNet id is its own synset. Of several names separated by commas, each is looked up whole (`hot dog`) as the
    most frequent synset of its lemma, and word by word if the whole is no noun (`food-fruit`).
    """
    tree, found = hypernyms(), list[str | None]()
    if WORDNET_ID.fullmatch(name):
        key = f"n{int(name[1:])}"
        return (key,) if key in tree.above else ()
    for part in name.lower().split(","):
        words = [word for word in re.split(r"[^a-z0-9']+", part) if word and word not in NOT_NOUNS]
        whole, *each = (tree.most_frequent_synset(lexicon().lemma(word)) for word in ("_".join(words), *words))
        found += [whole] if whole else each
    return tuple(dict.fromkeys(key for key in found if key is not None))
