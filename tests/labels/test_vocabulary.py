"""Vocabularies: labels are in order, files survive, nothing in a pickle is executed."""

import os
import pickle
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.experiment.config import change
from bench.experiment.experiments import EXPERIMENTS
from bench.experiment.fields import SampleSettings
from bench.labels.adjectives import frequent_adjective_labels_of_experiment
from bench.labels.counting import count_label_vocabulary
from bench.labels.labeller import LabelTally, get_label_rule, make_vocabulary
from bench.labels.vocabulary import (
    Vocabulary,
    read_vocabulary,
    write_vocabulary,
)
from bench.method_parts.synsets import compute_label_log_odds
from bench.profilers.memory import PeakMemory
from tests.labels.files import write_captions
from tests.processes import in_child


def vocabulary_of(counts: list[int], captions: int = 10) -> Vocabulary:
    """A count of the first few synsets of WordNet."""
    rule = get_label_rule("corenet")
    padded = np.zeros(len(rule.keys), np.int64)
    padded[: len(counts)] = counts
    return make_vocabulary(rule, LabelTally(captions, counts=padded, caption_counts=padded))


def test_labels_are_in_descending_order_and_cut_by_count_and_number() -> None:
    counted = vocabulary_of([5, 1, 3, 0, 3, 9, 2])
    order = [(-label.count, int(label.key[1:])) for label in counted.labels]
    assert order == sorted(order)
    assert [label.count for label in counted.keep_frequent(3, None).labels] == [9, 5, 3, 3]
    assert [label.count for label in counted.keep_frequent(1, 2).labels] == [9, 5]


def test_vocabulary_round_trips_through_its_file(tmp_path: Path) -> None:
    for vocabulary in (
        vocabulary_of([1, 2, 3]),
        vocabulary_of([4, 5]).keep_frequent(2, 7),
        vocabulary_of([]),
    ):
        write_vocabulary(vocabulary, tmp_path / "v.json")
        read_vocabulary.cache_clear()
        assert read_vocabulary(str(tmp_path / "v.json")) == vocabulary


LABEL = b'{"key": "n1", "name": "a", "count": 1, "captions": 1}'


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"n2084071\tdog\t12\n", "not a vocabulary: "),
        (b'{"rule": "corenet"', "not a vocabulary: "),
        (LABEL.replace(b": 1", b": -1"), "labels"),
        (LABEL.replace(b"n1", b"dog"), "labels"),
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
    vocabulary = read_vocabulary(str(tmp_path / "v.pkl"))
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
    return peak.read_peak_bytes_by_field()["peak_rss_bytes"]


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
    texts = ["a dog, a dog and a dog", "a cat", "dogs", "two dogs"]
    path = write_captions(tmp_path / "c.txt", texts)
    vocabulary = count_label_vocabulary(SampleSettings(data=str(path)), "corenet")
    counts = {label.name: (label.count, label.captions) for label in vocabulary.labels}
    assert counts == {"dog.n.01": (5, 3), "cat.n.01": (1, 1), "two.n.01": (1, 1)}
    odds = [3.5 / 1.5, 1.5 / 3.5, 1.5 / 3.5, 0.5 / 4.5]
    torch.testing.assert_close(compute_label_log_odds(vocabulary, 4), torch.tensor(odds).log())


def test_frequent_labels_of_adjectives_are_named(tmp_path: Path) -> None:
    texts = ["a large dress", "a small shirt", "a dress for women", "light and dog: mostly nouns"]
    path = write_captions(tmp_path / "c.txt", texts)
    counted = count_label_vocabulary(SampleSettings(data=str(path)), "corenet")
    write_vocabulary(counted, tmp_path / "v.json")
    experiment = EXPERIMENTS["catlip-tiny"]
    large, small = frequent_adjective_labels_of_experiment(
        change(experiment, synset_vocabulary=str(tmp_path / "v.json"))
    )
    assert large.startswith("large.n.01 (a garment size")
    assert small.startswith("small.n.01 (the slender part of the back")
    assert frequent_adjective_labels_of_experiment(experiment) == ()  # the pack's
    assert frequent_adjective_labels_of_experiment(EXPERIMENTS["superclass-tiny"]) == ()
