"""Vocabularies: counts of parts add up, files survive, nothing in a pickle is executed."""

import os
import pickle
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data.build_pack.vocabularies import SHIPPED_VOCABULARIES, shipped_vocabulary
from bench.labels.rules import rule_named
from bench.labels.vocabulary import Label, Vocabulary, counted, merged, read_vocabulary, write_vocabulary
from bench.profilers.memory import status_bytes

COUNTS = st.lists(st.integers(0, 3), min_size=6, max_size=6)


def vocabulary_of(counts: list[int], captions: int = 10) -> Vocabulary:
    """A count of the first few synsets of WordNet."""
    rule = rule_named("corenet")
    padded = np.zeros(len(rule.keys), np.int64)
    padded[: len(counts)] = counts
    return counted(rule, padded, captions)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.lists(COUNTS, min_size=2, max_size=5))
def test_a_merge_of_the_parts_is_a_count_of_the_whole(parts: list[list[int]]) -> None:
    whole = vocabulary_of(np.sum(parts, axis=0).tolist(), captions=10 * len(parts))
    assert merged([vocabulary_of(part) for part in parts]) == whole
    assert merged([merged([vocabulary_of(part) for part in parts[:-1]]), vocabulary_of(parts[-1])]) == whole


@settings(max_examples=60, derandomize=True, deadline=None)
@given(COUNTS)
def test_labels_are_sorted_by_count_then_by_offset_as_a_number(counts: list[int]) -> None:
    labels = vocabulary_of(counts).labels
    order = [(-label.count, int(label.synset[1:])) for label in labels]
    assert order == sorted(order)
    assert Counter(label.count for label in labels) == Counter(count for count in counts if count)


def test_a_cut_vocabulary_keeps_what_is_frequent_and_cannot_be_merged() -> None:
    whole = vocabulary_of([5, 1, 3, 3, 9, 2])
    assert [label.count for label in whole.cut(3, None).labels] == [9, 5, 3, 3]
    assert [label.count for label in whole.cut(1, 2).labels] == [9, 5]
    for cut in (whole.cut(3, None), whole.cut(1, 2)):
        with pytest.raises(ValueError, match="has lost counts and cannot be merged"):
            merged([whole, cut])


def test_counts_of_two_rules_cannot_be_merged() -> None:
    subwords = Vocabulary(rule="subword", captions=1, labels=(Label(subword="3", name="a", count=1),))
    with pytest.raises(ValueError, match="rule: corenet / subword"):
        merged([vocabulary_of([1]), subwords])


def test_a_vocabulary_survives_its_file(tmp_path: Path) -> None:
    for vocabulary in (vocabulary_of([1, 2, 3]), vocabulary_of([4, 5]).cut(2, 7), vocabulary_of([])):
        write_vocabulary(vocabulary, tmp_path / "v.json")
        read_vocabulary.cache_clear()
        assert read_vocabulary(str(tmp_path / "v.json")) == vocabulary


@pytest.mark.parametrize("name", SHIPPED_VOCABULARIES)
def test_the_shipped_vocabularies_are_those_of_the_packs_captions(name: str) -> None:
    assert read_vocabulary(name) == shipped_vocabulary(name)


def test_an_unknown_vocabulary_is_answered_with_what_there_is() -> None:
    with pytest.raises(ValueError, match="did you mean 'pack-synsets'"):
        read_vocabulary("pack-synset")
    with pytest.raises(ValueError, match="no vocabulary file"):
        read_vocabulary("/nowhere/x.json")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"n2084071\tdog\t12\n", "unknown vocabulary format"),
        (b"", "unknown vocabulary format"),
        (b'{"rule": "corenet"', "not a vocabulary: "),
        (b'{"rule": "corenet", "captions": 1, "labels": [{"synset": "n1", "name": "a", "count": -1}]}', "labels"),
        (b'{"rule": "corenet", "captions": 1, "labels": [{"synset": "dog", "name": "a", "count": 1}]}', "nNUMBER"),
        (b'{"rule": "corenet", "captions": 1, "labels": [{"subword": "1", "name": "a", "count": 1}]}', "nNUMBER"),
        (
            b'{"rule": "x", "captions": 1, "labels": [%s, %s]}' % ((b'{"synset": "n1", "name": "a", "count": 1}',) * 2),
            "twice",
        ),
        (b"{" * 100_000, "not a vocabulary: "),
    ],
)
def test_what_is_no_vocabulary_is_refused(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "v.json").write_bytes(content)
    with pytest.raises(ValueError, match=told):
        read_vocabulary(str(tmp_path / "v.json"))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_corenets_pickle_is_read_in_its_order(protocol: int, tmp_path: Path) -> None:
    """Its order is the order of the released heads' rows, also where counts are equal."""
    released = {"n5928118": 52_418_327, "n13333833": 7, "n4960277": 7}
    (tmp_path / "v.pkl").write_bytes(pickle.dumps(released, protocol))
    vocabulary = merged([read_vocabulary(str(tmp_path / "v.pkl"))])
    assert {label.key: label.count for label in vocabulary.labels} == released
    assert vocabulary.keys == tuple(released)
    assert (vocabulary.rule, vocabulary.captions) == ("corenet", None)


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_executes_nothing(protocol: int, tmp_path: Path) -> None:
    content = pickle.dumps({"n1": 1, "n2": Malicious(tmp_path / "executed")}, protocol)
    (tmp_path / "v.pkl").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"v\.pkl: only a pickle of dict, str and int is read: it asks for \w+\.system"
    ):
        read_vocabulary(str(tmp_path / "v.pkl"))
    assert not (tmp_path / "executed").exists()
    pickle.loads(content)
    assert (tmp_path / "executed").exists(), "the pickle was not malicious"


@pytest.mark.parametrize("held", [["n1"], {"n1": 1.5}, {1: 1}, {"n1": True}, {"n1": -1}, {"dog": 1}, {"n1": {}}, 7])
def test_a_pickle_of_anything_else_is_refused(held: object, tmp_path: Path) -> None:
    (tmp_path / "v.pkl").write_bytes(pickle.dumps(held))
    with pytest.raises(ValueError, match=r"v\.pkl: "):
        read_vocabulary(str(tmp_path / "v.pkl"))


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_are_more_than_an_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("v") / "v.pkl"
    path.write_bytes(b"\x80\x04" + content)
    with suppress(ValueError):
        read_vocabulary(str(path))


@pytest.mark.parametrize(
    "content", [b"\x80\x04}r\xff\xff\xff\x7f.", b"\x80\x05\x96" + (2**36).to_bytes(8, "little") + b"."]
)
def test_a_pickle_of_a_few_bytes_makes_room_for_no_more(content: bytes, tmp_path: Path) -> None:
    """It asks for place 2**31 - 1 of what is remembered, or for 64 GiB. Python's C class would take 32 GiB."""
    (tmp_path / "v.pkl").write_bytes(content)
    before = status_bytes("VmHWM")
    with suppress(ValueError):
        read_vocabulary(str(tmp_path / "v.pkl"))
    assert (status_bytes("VmHWM") or 0) - (before or 0) < 2**27
