"""WordNet 3.0's nouns: lemmas of words, synsets of lemmas, their hypernyms and nearest synsets, synsets of class names.

Reads the shipped tables; NLTK is not needed.
"""

import gzip
import lzma
import re
from collections import deque
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
WORD = re.compile(r"[a-z0-9']+")
NOT_NOUNS = {"and", "or", "of", "the", "a", "in", "with", "other"}


class NounLabelLexicon:
    """The noun lemmas of WordNet 3.0, and the label of each lemma that names a synset.

    A synset can be a label if it has its lemma's name: it is the lemma's first (most frequent) synset and the lemma is
    that synset's first word, so that `wn.synset("{lemma}.n.01").name()` equals that string. Labels are numbered in the
    order of their lemmas.
    """

    def __init__(self) -> None:
        # The labels of all noun lemmas; NOT_A_LABEL if no synset has the lemma's name.
        self.label_of = dict[str, int]()
        self.lemmas = list[str]()
        # "n<offset>" without leading zeros, as in CatLIP's released vocabulary.
        self.keys = list[str]()
        for lemma, *offset in read_compressed_tsv(PACK / "wordnet30-nouns.tsv.gz"):
            if offset:
                self.label_of[lemma] = len(self.keys)
                self.keys.append(f"n{offset[0]}")
                self.lemmas.append(lemma)
            else:
                self.label_of[lemma] = NOT_A_LABEL
        exceptions = read_compressed_tsv(PACK / "wordnet30-noun-exc.tsv.gz")
        self.exceptions = {word: bases.split() for word, bases in exceptions}

    def lemma(self, word: str) -> str:
        """Return the noun lemma of a lower-case word: the shortest known to WordNet, or the word itself.

        Source: NLTK 3.10's `WordNetLemmatizer`. Candidates are the word and its irregular bases or, if it has none, the
        results of one detachment.
        """
        if word in self.exceptions:
            bases = self.exceptions[word]
        elif word.endswith(("s", "men")):
            bases = []
            for suffix, replacement in DETACHMENTS:
                if word.endswith(suffix):
                    bases.append(word.removesuffix(suffix) + replacement)
        else:
            return word
        nouns = filter(self.label_of.__contains__, (word, *bases))
        return min(nouns, key=len, default=word)

    def title(self, label: int) -> str:
        """Return a synset's name: `dog.n.01`."""
        return f"{self.lemmas[label]}.n.01"

    def gloss(self, label: int) -> str:
        """Return WordNet's definition of a synset.

        The first call reads the table of glosses (60 ms).
        """
        return self._glosses[self.keys[label]]

    @cached_property
    def _glosses(self) -> dict[str, str]:
        glosses = read_compressed_tsv(PACK / "wordnet30-glosses.tsv.xz")
        return {f"n{offset}": gloss for offset, gloss in glosses}


lexicon = cache(NounLabelLexicon)  # read once per process


def read_compressed_tsv(path: Path) -> Iterator[list[str]]:
    """Yield the fields of each line of a .tsv.gz or .tsv.xz file."""
    decompress = gzip.decompress if path.suffix == ".gz" else lzma.decompress
    text = decompress(path.read_bytes()).decode()
    return (line.split("\t") for line in text.split("\n"))


class HypernymTable:
    """The direct hypernyms of all noun synsets of WordNet by key (`n2084071`), and the first synset of each lemma."""

    def __init__(self) -> None:
        self.above = dict[str, list[str]]()  # keys of the direct hypernyms
        self.first_sense = dict[str, str]()  # the most frequent synset of each noun lemma
        for offset, above_offsets, *_ in read_compressed_tsv(PACK / "wordnet30-hypernyms.tsv.xz"):
            self.above[f"n{offset}"] = [f"n{above}" for above in above_offsets.split()]
        # The first synset of each lemma that is not a label, in the order of the lemmas.
        other_senses = read_compressed_tsv(PACK / "wordnet30-senses.tsv.xz")
        for lemma, label in lexicon().label_of.items():
            if label == NOT_A_LABEL:
                offset, *_ = next(other_senses)
                self.first_sense[lemma] = f"n{offset}"
            else:
                self.first_sense[lemma] = lexicon().keys[label]

    def steps_to_hypernyms(self, key: str) -> dict[str, int]:
        """Return the fewest steps from a synset up to each of its hypernyms, and 0 to itself."""
        steps = {key: 0}
        waiting = deque([key])
        while waiting:
            below = waiting.popleft()
            for above in self.above[below]:
                if above not in steps:
                    steps[above] = steps[below] + 1
                    waiting.append(above)
        return steps


class RankedCandidate(NamedTuple):
    """A candidate synset; of two candidates the smaller one is nearer."""

    steps: int  # from the hypernym, or from the synset whose nearest candidate is searched
    position: int  # among the candidates: of equally near ones the first wins
    key: str


class NearestSynsetFinder:
    """Finds the synset of several candidates that is nearest to another one; of equally similar ones the first."""

    def __init__(self, keys: Iterable[str], tree: HypernymTable) -> None:
        self._tree = tree
        # By hypernym: the nearest candidate below it.
        self._nearest_below = dict[str, RankedCandidate]()
        for index, key in enumerate(keys):
            if key not in tree.above:
                continue
            for hypernym, steps in tree.steps_to_hypernyms(key).items():
                candidate = RankedCandidate(steps, index, key)
                nearest = self._nearest_below.get(hypernym, candidate)
                self._nearest_below[hypernym] = min(nearest, candidate)

    def nearest(self, key: str) -> str:
        """Return the candidate of the highest path similarity (NLTK's `Synset.path_similarity`) to a synset."""
        candidates = []
        for hypernym, steps in self._tree.steps_to_hypernyms(key).items():
            below = self._nearest_below.get(hypernym)
            if below:
                candidates.append(below._replace(steps=steps + below.steps))
        return min(candidates).key


hypernyms = cache(HypernymTable)  # read once per process


def synset_keys_of_class_name(name: str) -> tuple[str, ...]:
    """Return the keys of the synsets that a class name means; none if WordNet has no such noun.

    A WordNet id is its own synset. Of several names separated by commas, each is looked up whole (`hot dog`) as the
    most frequent synset of its lemma, and word by word if the whole is no noun (`food-fruit`).
    """
    tree = hypernyms()
    if WORDNET_ID.fullmatch(name):
        key = f"n{int(name[1:])}"
        return (key,) if key in tree.above else ()
    keys = list[str]()
    for part in name.lower().split(","):
        words = [word for word in WORD.findall(part) if word not in NOT_NOUNS]
        compound = lexicon().lemma("_".join(words))
        lemmas = [compound]
        if compound not in tree.first_sense:
            lemmas = [lexicon().lemma(word) for word in words]
        keys += filter(None, map(tree.first_sense.get, lemmas))
    return tuple(dict.fromkeys(keys))
