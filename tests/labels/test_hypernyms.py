"""WordNet's hierarchy: the same similarity as NLTK's, the nearest label by looking at all, the synsets of a class."""

import json
import random
from itertools import pairwise
from pathlib import Path

import pytest

from bench.labels.vocabulary import read_vocabulary
from bench.labels.wordnet import SynsetCandidates, hypernyms, lexicon, synset_keys_of_class_name

# What NLTK 3.10.4 says of WordNet 3.0: names of two synsets, their path similarity as 1 over this number.
RECORDED = json.loads(Path(__file__).with_name("path-similarity.json").read_text())


def test_every_noun_synset_has_a_unique_name_and_leads_to_entity() -> None:
    tree = hypernyms()
    assert len(tree.above) == len(set(tree.names.values())) == len(tree.names) == 82_115
    assert set(lexicon().keys) <= set(tree.above)
    (entity,) = [key for key, above in tree.above.items() if not above]
    assert tree.names[entity] == "entity.n.01"
    assert all(
        entity in tree.climbs(key) for key in random.Random(0).sample(sorted(tree.above), 2_000)
    )


def test_paths_have_single_steps_and_the_lengths_that_nltk_gives() -> None:
    tree = hypernyms()
    key_of = {name: key for key, name in tree.names.items()}
    assert len(RECORDED) == 400
    for start, end, length in RECORDED:
        path = [key_of[name] for name in tree.path(key_of[start], key_of[end])]
        assert (path[0], path[-1], len(path)) == (key_of[start], key_of[end], length)
        assert all(
            below in tree.above[above] or above in tree.above[below]
            for below, above in pairwise(path)
        )


def test_the_nearest_label_is_the_first_of_the_most_similar() -> None:
    """As by asking every label."""
    tree = hypernyms()
    vocabulary = read_vocabulary("pack-synsets").keys
    labels = SynsetCandidates(vocabulary, tree)
    for key in random.Random(2).sample(sorted(tree.above), 25):
        lengths = [len(tree.path(key, label)) for label in vocabulary]
        nearest = labels.nearest(key)
        assert nearest.similarity == pytest.approx(1 / min(lengths))
        assert nearest.key == vocabulary[lengths.index(min(lengths))]
        assert nearest.path == tree.path(key, nearest.key)


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
    assert [hypernyms().names[key] for key in synset_keys_of_class_name(name)] == synsets
