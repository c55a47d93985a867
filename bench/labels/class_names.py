"""The synsets that a task's class is, by its name."""

import re

from bench.labels.hypernyms import hypernyms
from bench.labels.lexicon import lexicon

WORDNET_ID = re.compile(r"n\d{8}")  # ImageNet's names of classes
NOT_NOUNS = {"and", "or", "of", "the", "a", "in", "with", "other"}


def synsets_of(name: str) -> tuple[str, ...]:
    """Return the keys of the synsets that a class's name means, none where WordNet has no such noun.

    A WordNet id is its synset. Of names between commas each is looked up whole (`hot dog`), as the commonest synset of
    its lemma; one that is no noun word by word (`food-fruit`).
    """
    tree, found = hypernyms(), list[str | None]()
    if WORDNET_ID.fullmatch(name):
        key = f"n{int(name[1:])}"
        return (key,) if key in tree.above else ()
    for part in name.lower().split(","):
        words = [word for word in re.split(r"[^a-z0-9']+", part) if word and word not in NOT_NOUNS]
        whole = _synset("_".join(words))
        found += [whole] if whole else map(_synset, words)
    return tuple(dict.fromkeys(key for key in found if key is not None))


def _synset(word: str) -> str | None:
    return hypernyms().first_synset(lexicon().lemma(word))
