"""WordNet 3.0's noun hierarchy: hypernyms, path similarity, and the first synset of any noun.

Reads two shipped tables in addition to the lexicon's; NLTK is not needed.
"""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from bench.data.manifest import PACK
from bench.labels.lexicon import NOT_A_LABEL, lexicon, rows_of


class NearestSynset(NamedTuple):
    """The most similar of several synsets, and the path to it."""

    key: str
    similarity: float
    path: tuple[str, ...]  # names from the given synset over the common hypernym to this one


class Hypernyms:
    """All noun synsets by key (`n2084071`) with their direct hypernyms, including those of instances."""

    def __init__(self, folder: Path = PACK) -> None:
        self.above: dict[str, tuple[str, ...]] = {}
        self._names: dict[str, str] = {}
        for row in rows_of(folder / "wordnet30-hypernyms.tsv.xz"):
            key = f"n{row[0]}"
            self.above[key] = tuple(f"n{offset}" for offset in row[1].split())
            if len(row) > 2:  # noqa: PLR2004
                self._names[key] = row[2]
        without = (lemma for lemma, label in lexicon().label_of.items() if label == NOT_A_LABEL)
        senses = (f"n{offset}" for (offset,) in rows_of(folder / "wordnet30-senses.tsv.xz"))
        self._first = dict(zip(without, senses, strict=True))
        self._names |= {key: f"{lemma}.n.01" for lemma, key in zip(lexicon().lemmas, lexicon().keys, strict=True)}

    def first_synset(self, lemma: str) -> str | None:
        """Return the most frequent synset of a noun lemma, whether or not it has the lemma's name."""
        return lexicon().synset_of(lemma) or self._first.get(lemma)

    def name(self, key: str) -> str:
        return self._names[key]

    def distances(self, key: str) -> dict[str, int]:
        """Return a synset and all of its hypernyms, with the fewest steps up to each."""
        found, rank, steps = {key: 0}, [key], 0
        while rank:
            steps += 1
            rank = list(dict.fromkeys(up for below in rank for up in self.above[below] if up not in found))
            found |= dict.fromkeys(rank, steps)
        return found

    def similarity(self, one: str, other: str) -> float:
        """Return 1 / (1 + steps) of the shortest path from one up to a common hypernym and down to the other.

        Source: WordNet::Similarity's `path` as NLTK computes it (`Synset.path_similarity`). All nouns share `entity`.
        """
        ups, downs = self.distances(one), self.distances(other)
        return 1 / (1 + min(ups[shared] + downs[shared] for shared in ups.keys() & downs.keys()))

    def path(self, one: str, other: str) -> tuple[str, ...]:
        """Return the names on a shortest path between two synsets."""
        ups, downs = self.distances(one), self.distances(other)
        shared = min(ups.keys() & downs.keys(), key=lambda key: (ups[key] + downs[key], ups[key], key))
        return tuple(map(self.name, (*self._climb(one, shared), *self._climb(other, shared)[-2::-1])))

    def _climb(self, key: str, top: str) -> list[str]:
        """Return a shortest path up to a hypernym, both ends included."""
        if key == top:
            return [key]
        steps = {up: count for up in self.above[key] if (count := self.distances(up).get(top)) is not None}
        return [key, *self._climb(min(steps, key=lambda up: (steps[up], up)), top)]


class LabelSet:
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


@cache
def hypernyms() -> Hypernyms:
    """Return the shipped hierarchy, read once per process."""
    return Hypernyms()
