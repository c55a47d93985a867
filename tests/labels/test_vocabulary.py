"""Vocabularies: counts of parts add up, files survive, nothing in a pickle is executed."""

import os
import pickle
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.labels.label_files import count_file_labels
from bench.labels.labeller import Tally, get_rule, vocabulary_of_tally
from bench.labels.vocabulary import (
    Vocabulary,
    VocabularyLabel,
    merge_vocabularies,
    read_vocabulary,
    write_vocabulary,
)
from bench.method_parts.synsets import label_log_odds
from bench.profilers.memory import PeakMemory
from tests.labels.files import write_captions
from tests.processes import in_child

COUNTS = st.lists(st.integers(0, 3), min_size=6, max_size=6)


def vocabulary_of(counts: list[int], captions: int = 10) -> Vocabulary:
    """A count of the first few synsets of WordNet."""
    rule = get_rule("corenet")
    padded = np.zeros(len(rule.keys), np.int64)
    padded[: len(counts)] = counts
    return vocabulary_of_tally(rule, Tally(captions, counts=padded, caption_counts=padded))


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.lists(COUNTS, min_size=2, max_size=5))
def test_merged_vocabularies_equal_a_sorted_count_of_all(parts: list[list[int]]) -> None:
    counts = np.sum(parts, axis=0).tolist()
    total = vocabulary_of(counts, captions=10 * len(parts))
    vocabularies = [vocabulary_of(part) for part in parts]
    assert merge_vocabularies(vocabularies) == total
    assert merge_vocabularies([merge_vocabularies(vocabularies[:-1]), vocabularies[-1]]) == total
    order = [(-label.count, int(label.synset[1:])) for label in total.labels]
    assert order == sorted(order)
    assert Counter(label.count for label in total.labels) == Counter(
        count for count in counts if count
    )


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (["1/9999999999"], r"got 1; missing: 2/9999999999, 3/9999999999"),
        (["1/3", "1/3"], r"got 2; missing: 2/3, 3/3$"),
        (["1/2", "2/2", "2/2"], r"got 3; missing: none$"),
        (["1/2", "2/3"], "different divisions: 1/2, 2/3"),
        (["1/2", ""], "different divisions: 1/2, all files"),
    ],
)
def test_parts_must_be_all_of_one_division(parts: list[str], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        merge_vocabularies(
            [Vocabulary(rule="corenet", captions=1, part=part, labels=()) for part in parts]
        )


def test_cut_vocabularies_and_other_rules_cannot_be_merged() -> None:
    counted = vocabulary_of([5, 1, 3, 3, 9, 2])
    frequent, first = counted.filtered(3, None), counted.filtered(1, 2)
    assert [label.count for label in frequent.labels] == [9, 5, 3, 3]
    assert [label.count for label in first.labels] == [9, 5]
    subwords = Vocabulary(
        rule="subword", captions=1, labels=(VocabularyLabel(subword="3", name="a", count=1),)
    )
    for other, text in (
        (frequent, "has lost counts"),
        (first, "has lost counts"),
        (subwords, "corenet / subword"),
    ):
        with pytest.raises(ValueError, match=text):
            merge_vocabularies([counted, other])


def test_vocabulary_round_trips_through_its_file(tmp_path: Path) -> None:
    for vocabulary in (
        vocabulary_of([1, 2, 3]),
        vocabulary_of([4, 5]).filtered(2, 7),
        vocabulary_of([]),
    ):
        write_vocabulary(vocabulary, tmp_path / "v.json")
        read_vocabulary.cache_clear()
        assert read_vocabulary(str(tmp_path / "v.json")) == vocabulary


def test_digest_depends_on_the_order_of_the_labels_alone() -> None:
    vocabulary = read_vocabulary("pack-synsets")
    assert vocabulary.digest == vocabulary.filtered(10, None).digest
    assert vocabulary.digest != vocabulary.filtered(1, 600).digest


@pytest.mark.parametrize(
    ("name", "text"),
    [("pack-synset", "did you mean 'pack-synsets'"), ("/nowhere/x.json", "no vocabulary file")],
)
def test_unknown_vocabulary_is_refused(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        read_vocabulary(name)


LABEL = b'{"synset": "n1", "name": "a", "count": 1}'


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"n2084071\tdog\t12\n", "unknown vocabulary format"),
        (b"", "unknown vocabulary format"),
        (b'{"rule": "corenet"', "not a vocabulary: "),
        (LABEL.replace(b": 1", b": -1"), "labels"),
        (LABEL.replace(b"n1", b"dog"), "expected n"),
        (LABEL.replace(b"synset", b"subword"), "expected n"),
        (LABEL + b", " + LABEL, "twice"),
        (b"{" * 100_000, "not a vocabulary: "),
    ],
)
def test_invalid_vocabulary_is_refused(content: bytes, text: str, tmp_path: Path) -> None:
    if b"count" in content:
        content = b'{"rule": "corenet", "captions": 1, "labels": [' + content + b"]}"
    (tmp_path / "v.json").write_bytes(content)
    with pytest.raises(ValueError, match=text):
        read_vocabulary(str(tmp_path / "v.json"))


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_is_read_in_its_order_and_executes_nothing(protocol: int, tmp_path: Path) -> None:
    """Its order is the order of the released heads' rows, also where counts are equal."""
    released = {"n5928118": 52_418_327, "n13333833": 7, "n4960277": 7}
    (tmp_path / "v.pkl").write_bytes(pickle.dumps(released, protocol))
    vocabulary = merge_vocabularies([read_vocabulary(str(tmp_path / "v.pkl"))])
    assert [(label.key, label.count) for label in vocabulary.labels] == [*released.items()]
    assert (vocabulary.rule, vocabulary.captions) == ("corenet", None)

    content = pickle.dumps({"n1": 1, "n2": Malicious(tmp_path / "executed")}, protocol)
    (tmp_path / "w.pkl").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"w\.pkl: only a pickle of dict, str and int is read: .* \w+\.system"
    ):
        read_vocabulary(str(tmp_path / "w.pkl"))
    assert not (tmp_path / "executed").exists()
    pickle.loads(content)
    assert (tmp_path / "executed").exists(), "the pickle was not malicious"


@pytest.mark.parametrize(
    "held", [["n1"], {"n1": 1.5}, {1: 1}, {"n1": True}, {"n1": -1}, {"dog": 1}, {"n1": {}}, 7]
)
def test_a_pickle_of_anything_else_is_refused(held: object, tmp_path: Path) -> None:
    (tmp_path / "v.pkl").write_bytes(pickle.dumps(held))
    with pytest.raises(ValueError, match=r"v\.pkl: "):
        read_vocabulary(str(tmp_path / "v.pkl"))


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_at_most_an_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("v") / "v.pkl"
    path.write_bytes(b"\x80\x04" + content)
    with suppress(ValueError):
        read_vocabulary(str(path))


def bytes_taken(path: Path) -> int:
    """Return how far resident memory rises while a vocabulary is read or refused."""
    peak = PeakMemory(torch.device("cpu"))
    with suppress(ValueError):
        read_vocabulary(str(path))
    return peak.read().rss or 0


@pytest.mark.parametrize(
    "content",
    [b"\x80\x04}r\xff\xff\xff\x7f.", b"\x80\x05\x96" + (2**36).to_bytes(8, "little") + b"."],
)
def test_small_pickle_allocates_little_memory(content: bytes, tmp_path: Path) -> None:
    """It asks for place 2**31 - 1 of what is remembered, or for 64 GiB. Python's C class would take 32 GiB."""
    (tmp_path / "v.pkl").write_bytes(content)
    assert in_child(bytes_taken, tmp_path / "v.pkl") < 2**27


def test_log_odds_are_of_the_captions_with_a_label_which_a_caption_may_repeat(
    tmp_path: Path,
) -> None:
    """Occurrences would be more than there are captions, and their odds no number."""
    counted = []
    for texts in (["a dog, a dog and a dog", "a cat"], ["dogs"], ["two dogs"]):
        path = write_captions(tmp_path / "c.txt", texts)
        counted.append(count_file_labels([path], "corenet"))
    vocabulary = merge_vocabularies(counted)
    counts = {label.name: (label.count, label.num_captions) for label in vocabulary.labels}
    assert counts == {"dog.n.01": (5, 3), "cat.n.01": (1, 1), "two.n.01": (1, 1)}
    odds = [3.5 / 1.5, 1.5 / 3.5, 1.5 / 3.5, 0.5 / 4.5]
    torch.testing.assert_close(label_log_odds(vocabulary, 4), torch.tensor(odds).log())
    write_vocabulary(vocabulary, tmp_path / "v.json")
    assert read_vocabulary(str(tmp_path / "v.json")) == vocabulary
    (tmp_path / "w.json").write_bytes(
        (tmp_path / "v.json").read_bytes().replace(b'"captions":3,', b"")
    )
    with pytest.raises(ValueError, match="has more than all 4 captions: count again"):
        read_vocabulary(str(tmp_path / "w.json"))
