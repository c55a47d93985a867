"""WordNet's hierarchy: the same similarity as NLTK's, the nearest label by looking at all, the synsets of a class."""

import json
import random
from pathlib import Path

import pytest

from bench.data.manifest import PACK
from bench.labels.vocabulary import read_vocabulary
from bench.labels.wordnet import (
    NearestSynsetFinder,
    hypernyms,
    lexicon,
    read_compressed_tsv,
    synset_keys_of_class_name,
)

# What NLTK 3.10.4 says of WordNet 3.0: names of two synsets, their path similarity as 1 over this number.
TABLE = PACK / "wordnet30-hypernyms.tsv.xz"
RECORDED = json.loads(Path(__file__).with_name("path-similarity.json").read_text())


def synset_names() -> dict[str, str]:
    """Return the names of all synsets by key; the table of hypernyms has those that are no lemma's."""
    names = {
        f"n{offset}": name for offset, _, *names in read_compressed_tsv(TABLE) for name in names
    }
    for label, key in enumerate(lexicon().keys):
        names[key] = lexicon().title(label)
    return names


def path_length(start: str, end: str) -> int:
    """Return the number of synsets on the shortest path over a common hypernym, with both ends."""
    up = hypernyms().steps_to_hypernyms(start)
    down = hypernyms().steps_to_hypernyms(end)
    return min(up[key] + down[key] for key in up.keys() & down.keys()) + 1


def test_every_noun_synset_has_a_unique_name_and_leads_to_entity() -> None:
    tree = hypernyms()
    names = synset_names()
    assert len(tree.above) == len(set(names.values())) == len(names) == 82_115
    assert set(lexicon().keys) <= set(tree.above)
    (entity,) = [key for key, above in tree.above.items() if not above]
    assert names[entity] == "entity.n.01"
    assert all(
        entity in tree.steps_to_hypernyms(key)
        for key in random.Random(0).sample(sorted(tree.above), 2_000)
    )


def test_paths_have_the_lengths_that_nltk_gives() -> None:
    key_of = {name: key for key, name in synset_names().items()}
    assert len(RECORDED) == 400
    for start, end, length in RECORDED:
        assert path_length(key_of[start], key_of[end]) == length


def test_the_nearest_label_is_the_first_of_the_most_similar() -> None:
    """As by asking every label."""
    vocabulary = read_vocabulary("shipped-synsets").keys
    labels = NearestSynsetFinder(vocabulary, hypernyms())
    for key in random.Random(2).sample(sorted(hypernyms().above), 25):
        lengths = [path_length(key, label) for label in vocabulary]
        assert labels.nearest(key) == vocabulary[lengths.index(min(lengths))]


@pytest.mark.parametrize(
    ("name", "synsets"),
    [
        ("dog", ["dog.n.01"]),
        ("n02084071", ["dog.n.01"]),
        ("n00000001", []),
        ("Hot dog", ["hotdog.n.01"]),
        ("hot-dogs", ["hotdog.n.01"]),
        ("couch", ["sofa.n.01"]),
        ("tench, Tinca tinca", ["tench.n.01"]),
        ("food-fruit", ["food.n.01", "fruit.n.01"]),
        ("animals & nature", ["animal.n.01", "nature.n.01"]),
        ("xyzzy", []),
    ],
)
def test_class_name_is_looked_up_whole_then_by_words(name: str, synsets: list[str]) -> None:
    names = synset_names()
    assert [names[key] for key in synset_keys_of_class_name(name)] == synsets
