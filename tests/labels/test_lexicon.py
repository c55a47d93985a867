"""The lexicon, and the rule of the paper."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.labels.labeller import get_label_rule
from bench.labels.synset_rules import PaperRule
from bench.labels.wordnet import NOT_A_LABEL, lexicon
from tests.labels.hostile import captions, synsets


def test_a_label_is_one_synset_with_a_name_and_a_gloss() -> None:
    """Keys are WordNet's offsets without leading zeros, as in apple/corenet's docstring and released vocabulary."""
    words = lexicon()
    keys = [words.keys[words.label_of[word]] for word in ("dog", "person", "image")]
    assert keys == ["n2084071", "n7846", "n5928118"]
    assert words.label_of["photo"] == NOT_A_LABEL
    assert len(words.keys) == len(set(words.keys)) == len(words.lemmas) == 64_221
    assert len(words.label_of) == 117_798
    assert all(words.label_of[lemma] == label for label, lemma in enumerate(words.lemmas))
    assert sum(label != NOT_A_LABEL for label in words.label_of.values()) == len(words.keys)
    dog = words.label_of["dog"]
    assert words.title(dog) == "dog.n.01"
    assert words.gloss(dog).startswith(
        "a member of the genus Canis (probably descended from the common wolf)"
    )
    assert all(words.gloss(label) for label in range(len(words.keys)))


@pytest.mark.parametrize(
    ("word", "lemma"),
    [
        ("bicycles", "bicycle"),
        ("wolves", "wolf"),
        ("axes", "ax"),  # the shortest of its bases
        ("us", "u"),
        ("women", "woman"),
        ("brethren", "brother"),
        ("dog", "dog"),
        ("blorps", "blorps"),
        ("", ""),
    ],
)
def test_lemmas_equal_wordnets(word: str, lemma: str) -> None:
    assert lexicon().lemma(word) == lemma


def shapes(words: list[str]) -> list[tuple[str, str]]:
    """Tag by form alone: a plural is a noun."""
    return [(word, "NNS" if word.endswith("s") else "VB") for word in words]


def test_paper_rule_keeps_the_released_labels_of_nouns() -> None:
    rule = PaperRule(shapes)
    texts = ["two dogs and a cat on bicycles", None, "dogs dogs", "the end"]
    labels = rule.label_ids(pa.array(texts)).to_pylist()
    titles = [[rule.title(label) for label in row] for row in labels]
    assert titles == [["dog.n.01", "bicycle.n.01"], [], ["dog.n.01", "dog.n.01"], []]


@given(st.lists(captions, max_size=4))
def test_rules_agree_if_every_token_is_a_noun(texts: list[str]) -> None:
    rule = PaperRule(lambda words: [(word, "NN") for word in words])
    assert synsets(rule, texts) == synsets(get_label_rule("corenet"), texts)
