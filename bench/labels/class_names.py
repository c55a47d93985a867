"""Synsets of a task's classes, by the classes' names."""

import re

from bench.labels.hypernyms import hypernyms
from bench.labels.lexicon import lexicon

WORDNET_ID = re.compile(r"n\d{8}")  # class names of ImageNet
NOT_NOUNS = {"and", "or", "of", "the", "a", "in", "with", "other"}


def synsets_of(name: str) -> tuple[str, ...]:
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
        whole, *each = (tree.first_synset(lexicon().lemma(word)) for word in ("_".join(words), *words))
        found += [whole] if whole else each
    return tuple(dict.fromkeys(key for key in found if key is not None))
