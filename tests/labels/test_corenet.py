"""The rule `corenet` gives the released code's labels, recorded and computed, on its fast paths too."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.labels.cleaning import clean_caption_like_corenet
from bench.labels.label_rule import LABEL_LISTS
from bench.labels.labeller import get_label_rule
from bench.labels.pieces import CachedNounLabeller
from bench.labels.synset_rules import clean_captions
from bench.labels.tokens import clean_and_tokenize
from bench.labels.wordnet import NOT_A_LABEL, hypernyms, lexicon
from tests.labels import oracle
from tests.labels.hostile import captions, hostile_captions, synsets

RECORD = json.loads(gzip.decompress((Path(__file__).parent / "released.json.gz").read_bytes()))
TEXTS = [text for text, _ in RECORD]
ANSWERS = [labels for _, labels in RECORD]
needs_oracle = pytest.mark.skipif(bool(oracle.missing()), reason=oracle.missing() or "")


def label_as_a_whole(text: str) -> list[str]:
    """Label a caption without pieces."""
    labels = [get_label_rule("corenet").label_token(token) for token in clean_and_tokenize(text)]
    return [lexicon().keys[label] for label in labels if label != NOT_A_LABEL]


def test_labels_equal_the_released_code_in_a_column_and_as_a_whole() -> None:
    assert len(RECORD) > 2500
    assert sum(map(len, ANSWERS)) > 6000
    assert synsets(get_label_rule("corenet"), TEXTS) == ANSWERS
    assert [label_as_a_whole(text) for text in TEXTS] == ANSWERS


@pytest.mark.parametrize(
    ("caption", "lemmas"),
    [
        ("A dog and two Dogs", ["dog", "two", "dog"]),  # as often as named, in the order of mention
        ("glasses, mice; geese", ["glass", "mouse", "goose"]),
        (
            "photo of us",
            [],
        ),  # photo's first synset is photograph.n.01; us becomes u, which heads nothing
        ("the women's knives", ["woman", "knife"]),
        ("dog&#39;s%20bone+collar <b>cat</b>", ["dog", "bone", "collar", "cat"]),
        ("a hot_dog", []),
        ("a fire_engine, 24/7.", ["fire_engine", "24/7"]),
        (
            "the reps. of dogs. cats",
            ["dog", "cat"],
        ),  # an abbreviation keeps its period, and is no noun
        ("a cat–dog thing", ["cat", "dog", "thing"]),
        ("日本語 🐕", []),
    ],
)
def test_caption_names_its_nouns(caption: str, lemmas: list[str]) -> None:
    assert synsets(get_label_rule("corenet"), [caption]) == [
        [hypernyms().first_sense[lemma] for lemma in lemmas]
    ]


@given(st.lists(captions, max_size=8))
def test_labels_are_the_sum_of_the_pieces(texts: list[str]) -> None:
    assert synsets(get_label_rule("corenet"), texts) == [label_as_a_whole(text) for text in texts]


def test_labels_of_hostile_captions_are_the_sum_of_the_pieces() -> None:
    texts = hostile_captions(5_000, seed=2)
    assert synsets(get_label_rule("corenet"), texts) == [label_as_a_whole(text) for text in texts]


@given(st.lists(captions, max_size=8))
def test_column_cleaning_equals_caption_cleaning(texts: list[str]) -> None:
    column = clean_captions(pa.array(texts, pa.string())).to_pylist()
    assert [text.split() for text in column] == [
        clean_caption_like_corenet(text).split() for text in texts
    ]


@given(st.lists(st.none() | captions, max_size=12), st.integers(0, 12), st.integers(0, 12))
def test_splitting_a_column_does_not_change_labels(
    texts: list[str | None], start: int, length: int
) -> None:
    column = pa.array(texts, pa.string())
    labels = get_label_rule("corenet").label_ids(column)
    part_labels = get_label_rule("corenet").label_ids(column.slice(start, length))
    assert part_labels.type == labels.type == LABEL_LISTS
    assert part_labels.to_pylist() == labels.to_pylist()[start : start + length]


@pytest.mark.parametrize(
    "part", [*"<!.'\"-,\n\té&", "a<", "dog ", "dog", "dog. ", "! ", ". ", "a.", "' ", "ÿÀ"]
)
def test_a_quarter_of_a_million_characters_are_labelled(part: str) -> None:
    text = (part * 250_000)[:250_000]
    labels = synsets(get_label_rule("corenet"), [text, f"cat {text}"])
    assert labels[1][0] == hypernyms().first_sense["cat"]


def test_piece_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.labels.pieces.MAX_ENTRIES", 3)
    pieces = CachedNounLabeller(lexicon())
    texts = ["dogs", "cats.", "mice", "men", "d'ye", "geese", "dogs", "can't", "oxen", "two"]
    assert pieces.label_pieces(texts) == [
        CachedNounLabeller(lexicon()).label_pieces([text])[0] for text in texts
    ]
    assert len(pieces._pieces) <= 3


@needs_oracle
@given(captions)
def test_arbitrary_captions_have_the_released_codes_labels(text: str) -> None:
    assert synsets(get_label_rule("corenet"), [text]) == [oracle.labels(text)]


@needs_oracle
def test_hostile_captions_have_the_released_codes_tokens_and_kept_labels_are_its_own() -> None:
    texts = hostile_captions(2_000, seed=4)
    assert [clean_and_tokenize(text) for text in texts] == [oracle.words(text) for text in texts]
    assert [oracle.labels(text) for text in TEXTS[::20]] == ANSWERS[::20]
