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


def keys_by_name() -> dict[str, str]:
    tree = hypernyms()
    return {tree.names[key]: key for key in tree.above}


def similarity(one: str, other: str) -> float:
    """Return 1 / (1 + steps) of the shortest path from one up to a common hypernym and down to the other."""
    ups, downs = hypernyms().distances(one), hypernyms().distances(other)
    return 1 / (1 + min(ups[shared] + downs[shared] for shared in ups.keys() & downs.keys()))


def test_every_noun_synset_has_a_unique_name_and_leads_to_entity() -> None:
    tree = hypernyms()
    assert len(tree.above) == len(keys_by_name()) == 82_115
    assert set(lexicon().keys) <= set(tree.above)
    entity = keys_by_name()["entity.n.01"]
    assert all(entity in tree.distances(key) for key in random.Random(0).sample(sorted(tree.above), 2_000))
    assert [key for key, above in tree.above.items() if not above] == [entity]


def test_similarities_equal_kept_nltk_similarities() -> None:
    keys, tree = keys_by_name(), hypernyms()
    assert len(RECORDED) == 400
    for one, other, steps in RECORDED:
        assert similarity(keys[one], keys[other]) == pytest.approx(1 / steps)
        assert len(tree.path(keys[one], keys[other])) == steps


def test_similarities_equal_installed_nltk() -> None:
    reader = pytest.importorskip("nltk.corpus.reader.wordnet", reason="NLTK is in the oracle extra")
    assert reader
    from nltk.corpus import wordnet

    try:
        wordnet.ensure_loaded()
    except LookupError:
        pytest.skip("NLTK has no WordNet: its data is fetched apart")
    draw, tree = random.Random(1), hypernyms()
    for _ in range(300):
        one, other = draw.sample(sorted(tree.above), 2)
        theirs = [wordnet.synset_from_pos_and_offset("n", int(key[1:])) for key in (one, other)]
        assert [synset.name() for synset in theirs] == [tree.names[one], tree.names[other]]
        assert similarity(one, other) == pytest.approx(theirs[0].path_similarity(theirs[1]))


def test_path_consists_of_single_steps() -> None:
    keys, tree = keys_by_name(), hypernyms()
    for one, other, _ in RECORDED[:100]:
        way = [keys[name] for name in tree.path(keys[one], keys[other])]
        assert (way[0], way[-1]) == (keys[one], keys[other])
        assert all(below in tree.above[above] or above in tree.above[below] for below, above in pairwise(way))


def test_the_nearest_label_is_the_first_of_the_most_similar() -> None:
    """As by asking every label."""
    tree, vocabulary = hypernyms(), read_vocabulary("pack-synsets").keys
    labels = SynsetCandidates(vocabulary, tree)
    for key in random.Random(2).sample(sorted(tree.above), 25):
        all_of_them = {label: similarity(key, label) for label in vocabulary}
        found = labels.nearest(key)
        assert found.similarity == pytest.approx(max(all_of_them.values()))
        assert found.key == next(label for label in vocabulary if all_of_them[label] == pytest.approx(found.similarity))


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
