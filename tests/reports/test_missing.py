"""Records of any kind may be missing: the page says so and stands."""

from collections.abc import Callable
from typing import Any

import pytest

from bench.record import Failure, Record
from reports.page import page

Make = dict[str, Callable[..., Any]]
Words = Callable[[str], str]


def test_speeds_alone(make: Make, words: Words) -> None:
    names = ("clip-tiny", "catlip-tiny")
    told = words(page("speeds", [make["speed"](name, number) for name in names for number in range(5)]))
    assert "verdict: faster" in told
    assert "No tower was scored in this comparison" in told
    assert "This comparison has no record of a training." in told
    assert "No run failed." in told


def test_one_run_has_no_interval_and_says_so(make: Make, words: Words) -> None:
    told = words(page("smoke", [make["speed"](name, 0) for name in ("clip-tiny", "catlip-tiny")]))
    assert "one run each: no interval; verdict: inconclusive" in told
    assert "1 run per experiment cannot reach p ≤ 0.01: 5 rounds are needed" in told
    assert "95 % interval" not in told.split("Throughput", maxsplit=1)[0]


def test_one_experiment_is_compared_with_nothing(make: Make, words: Words) -> None:
    told = words(page("alone", [make["speed"]("siglip-tiny", number) for number in range(3)]))
    assert "SigLIP trains" in told
    assert "(median of 3 runs)" in told
    assert "times as many" not in told


def test_failures_alone(make: Make, words: Words) -> None:
    told = words(page("failed", [make["failure"](reason="out of memory")]))
    assert "1 run failed." in told
    assert "SuperClass superclass-tiny speed out of memory" in told
    assert "✕ failed" in told


def test_a_failed_experiment_keeps_its_row_among_the_others(make: Make, words: Words) -> None:
    told = words(page("x", [make["speed"]("clip-tiny", 0), make["failure"]("catlip-tiny")]))
    assert "✕ failed" in told.split("CatLIP catlip-tiny", maxsplit=1)[1]


def test_a_failed_run_without_an_experiment_is_shown(make: Make, words: Words) -> None:
    found = make["record"](Failure(what="scoring", reason="no file"), None)
    assert "none scoring no file" in words(page("x", [found]))


@pytest.mark.parametrize("kind", ["memory", "training", "transfer"])
def test_each_kind_alone(whole: list[Record], words: Words, kind: str) -> None:
    records = [one for one in whole if type(one.measured).__name__.lower() == kind]
    assert "No speed was measured" in words(page(kind, records))
