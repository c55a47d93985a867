"""Figures of measurements are compared as throughput is, and what a measurement returns is checked."""

import math
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.console.console import UserError
from bench.experiment.experiments import EXPERIMENTS
from bench.interfaces.measurement import ExtensionMeasurement
from bench.measure.figures import (
    MeasuredValueSummary,
    extension_measurement_tables,
    summarize_extension_measurements,
)
from bench.records.record import (
    BetterDirection,
    FigureSpec,
    MeasuredFigures,
    Record,
)
from bench.statistics.ratios import compare_rate_pairs
from tests.reports.conftest import HERE

NAMES = ("clip-tiny", "catlip-tiny", "siglip-tiny")
ROUNDS = 6


def records_of(
    values: Mapping[str, Mapping[str, float]], better: BetterDirection | None = "higher"
) -> list[Record]:
    """Six rounds with the values of each figure of each experiment, and a spread of 1 %."""
    draw = random.Random(0)
    figures = tuple(FigureSpec(name, "ms", better) for name in next(iter(values.values())))
    return [
        Record(
            comparison="c",
            experiment=EXPERIMENTS[name],
            circumstances=HERE,
            measured=MeasuredFigures(
                measurement="mine",
                title="Mine",
                round=round_,
                figures=figures,
                values={
                    figure: (0.0, value * draw.gauss(1, 0.01), 1e9) for figure, value in own.items()
                },
            ),
        )
        for round_ in range(ROUNDS)
        for name, own in values.items()
    ]


def found(records: list[Record], *names: str) -> dict[tuple[str, str], MeasuredValueSummary]:
    return {
        (row.figure.name, row.experiment): row
        for row in summarize_extension_measurements(records, names or NAMES)
    }


def test_ratios_are_those_of_the_medians_of_runs_adjusted_for_all_ratios_of_the_measurement() -> (
    None
):
    values = {
        "clip-tiny": {"a": 10.0, "b": 5.0},
        "catlip-tiny": {"a": 20.0, "b": 5.0},
        "siglip-tiny": {"a": 9, "b": 4},
    }
    rows = found(records_of(values))
    rounds = {key: row.rounds for key, row in rows.items()}
    expected = compare_rate_pairs(
        {
            f"{figure} {name}": (rounds[figure, NAMES[0]], rounds[figure, name])
            for figure in "ab"
            for name in NAMES[1:]
        }
    )
    assert {
        f"{figure} {name}": row.ratio for (figure, name), row in rows.items() if row.ratio
    } == expected
    assert rows["a", "catlip-tiny"].value == pytest.approx(20, rel=0.02)
    assert rows["a", "catlip-tiny"].verdict == "better"
    assert rows["a", "siglip-tiny"].verdict == "worse"
    assert (rows["a", "clip-tiny"].ratio, rows["a", "clip-tiny"].verdict) == (None, "")


@pytest.mark.parametrize(
    ("better", "verdict"), [("higher", "better"), ("lower", "worse"), (None, "higher")]
)
def test_verdict_follows_the_direction_that_is_better(
    better: BetterDirection | None, verdict: str
) -> None:
    rows = found(records_of({"clip-tiny": {"a": 1.0}, "catlip-tiny": {"a": 2.0}}, better))
    assert rows["a", "catlip-tiny"].verdict == verdict


def test_figure_that_is_not_above_zero_has_no_ratio_and_the_others_have_one() -> None:
    rows = found(
        records_of({"clip-tiny": {"a": -1.0, "b": 1.0}, "catlip-tiny": {"a": 2.0, "b": 2.0}})
    )
    assert rows["a", "catlip-tiny"].ratio is None
    assert rows["b", "catlip-tiny"].ratio is not None


def test_table_of_each_measurement_has_a_row_for_each_figure_and_experiment() -> None:
    records = records_of({"clip-tiny": {"a": 1.0}, "catlip-tiny": {"a": 2.0}})
    (table,) = extension_measurement_tables(records, NAMES)
    assert table.title == "Mine"
    assert [(row["figure"], row["experiment"], row["runs"]) for row in table.rows] == [
        ("a, ms", "clip-tiny", ROUNDS),
        ("a, ms", "catlip-tiny", ROUNDS),
    ]


def test_records_of_other_figures_are_not_compared() -> None:
    first, other = (
        records_of({"clip-tiny": {"a": 1.0}}, "lower"),
        records_of({"catlip-tiny": {"a": 1.0}}, None),
    )
    with pytest.raises(ValueError, match="records of the measurement mine have other figures"):
        summarize_extension_measurements([*first, *other], NAMES)


class Mine(ExtensionMeasurement):
    """Returns what it is made with."""

    name = "mine"
    title = "Mine"
    figures = (FigureSpec("a", "ms"), FigureSpec("b", ""))

    def __init__(self, returned: Any) -> None:
        self.returned = returned

    def measure(self, *_: object) -> Any:
        return self.returned


def run(returned: Any) -> dict[str, tuple[float, ...]]:
    return Mine(returned).measure_finite_values(
        EXPERIMENTS["clip-tiny"], torch.device("cpu"), Path()
    )


def test_values_are_numbers_in_the_order_of_the_figures() -> None:
    assert run({"b": torch.tensor(2), "a": torch.tensor([1.0, 3.0])}) == {
        "a": (1.0, 3.0),
        "b": (2.0,),
    }
    assert [*run({"b": 1, "a": 2})] == ["a", "b"]


@pytest.mark.parametrize(
    "returned",
    [
        {"a": 1.0},
        {"a": 1.0, "b": []},
        {"a": float("nan"), "b": 1.0},
        {"a": 1.0, "b": [1.0, -math.inf]},
    ],
)
def test_measurement_may_return_finite_numbers_alone(returned: Any) -> None:
    with pytest.raises(UserError, match=r"mine must return finite numbers for the figure [ab]$"):
        run(returned)
