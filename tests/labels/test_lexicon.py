"""The lexicon, and why a token has its label."""

import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.labels.labeller import get_rule
from bench.labels.synset_rules import PaperRule
from bench.labels.tokens import ASCII_RULES, UNICODE_RULES, split_words
from bench.labels.wordnet import NOT_A_LABEL, lexicon
from tests.labels.hostile import captions, synsets


def test_a_label_is_one_synset_with_a_name_and_a_gloss() -> None:
    """Keys are WordNet's offsets without leading zeros, as in apple/corenet's docstring and released vocabulary."""
    words = lexicon()
    assert [words.synset_of(word) for word in ("dog", "person", "image")] == [
        "n2084071",
        "n7846",
        "n5928118",
    ]
    assert words.synset_of("photo") is None
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


@given(st.text(st.characters(max_codepoint=126, min_codepoint=32)) | captions.filter(str.isascii))
def test_both_engines_cut_ascii_alike(sentence: str) -> None:
    assert split_words(sentence, ASCII_RULES) == split_words(sentence, UNICODE_RULES)


@given(captions)
def test_an_explanation_gives_the_labels_and_a_reason_for_every_other_token(caption: str) -> None:
    tokens = get_rule("corenet").explain(caption)
    assert [token.key for token in tokens if token.key] == synsets(get_rule("corenet"), [caption])[
        0
    ]
    assert all(
        (token.key is None) == (token.dropped is not None) == (token.gloss is None)
        for token in tokens
    )


def test_explanation_says_why_a_token_has_no_label() -> None:
    tokens = {
        token.token: token for token in get_rule("corenet").explain("A photo of the two bicycles")
    }
    bicycle = tokens["bicycles"]
    assert (bicycle.lemma, bicycle.title, bicycle.dropped) == ("bicycle", "bicycle.n.01", None)
    assert "first synset has another word's name" in str(tokens["photo"].dropped)
    assert tokens["the"].dropped == "no noun of WordNet"


def shapes(words: list[str]) -> list[tuple[str, str]]:
    """Tag by form alone: a plural is a noun."""
    return [(word, "NNS" if word.endswith("s") else "VB") for word in words]


def test_paper_rule_keeps_the_released_labels_of_nouns() -> None:
    rule = PaperRule(shapes)
    labels, offsets = rule.label(
        pa.array(["two dogs and a cat on bicycles", None, "dogs dogs", "the end"])
    )
    assert [rule.title(label) for label in labels.tolist()] == [
        "dog.n.01",
        "bicycle.n.01",
        "dog.n.01",
        "dog.n.01",
    ]
    assert offsets.tolist() == [0, 2, 2, 4, 4]
    assert [token.dropped for token in rule.explain("dogs cat")] == [
        None,
        "tagged VB, which is no noun",
    ]


@given(st.lists(captions, max_size=4))
def test_rules_agree_if_every_token_is_a_noun(texts: list[str]) -> None:
    rule = PaperRule(lambda words: [(word, "NN") for word in words])
    assert synsets(rule, texts) == synsets(get_rule("corenet"), texts)


def test_paper_rule_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = pytest.importorskip("nltk.data", reason="nltk is in the extra `paper`")
    monkeypatch.setattr(data, "path", [str(tmp_path)])
    with pytest.raises(
        ValueError, match=r"python -m nltk\.downloader averaged_perceptron_tagger_eng"
    ):
        PaperRule()
    monkeypatch.setitem(sys.modules, "nltk.tag.perceptron", None)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[paper\]'"):
        PaperRule()
