"""Few labels, other tasks, other heads: what the page shows is the statistics of the records."""

import random
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.experiment.config import change
from bench.experiment.experiments import get_experiment
from bench.records.record import Record, TransferScores
from bench.records.scores import AccuracyScore, MetricScore
from bench.statistics.accuracies import MeanEstimate, estimate_mean_over_draws
from bench.statistics.intervals import mean_with_interval
from reports.page import render_comparison_page
from tests.reports.conftest import new_record, words
from tests.reports.test_page import Document

DRAWS, ITEMS = 10, 400
PLACES: tuple[dict[str, Any], ...] = (
    {"per_class": 1},
    {"per_class": 4},
    {"label_share": 0.05},
    {"label_share": 1.0},
)


def score(task: str, protocol: str, share: float, draw: int, **point: Any) -> AccuracyScore:
    right = round(share * ITEMS)
    return AccuracyScore(
        task=task,
        protocol=protocol,
        chosen=1.0,
        validation_accuracy=share,
        converged=True,
        correct="1" * right + "0" * (ITEMS - right),
        num_classes=8,
        num_train=8,
        majority=0.2,
        draw=draw,
        **point,
    )


def shares(subject: str, seed: int, place: dict[str, Any]) -> list[float]:
    chance = random.Random(f"{subject} {seed} {place}")
    number = 1 if place.get("label_share") == 1.0 else DRAWS
    return [round((0.4 + 0.1 * chance.random()) * ITEMS) / ITEMS for _ in range(number)]


def answers(subject: str, seed: int, place: dict[str, Any]) -> dict[int, Any]:
    rights = [round(share * ITEMS) for share in shares(subject, seed, place)]
    return {
        draw: np.repeat([1.0, 0.0], [right, ITEMS - right]) for draw, right in enumerate(rights)
    }


def curve_record(subject: str, seed: int, tasks: Sequence[str] = ("emoji",)) -> Record:
    """What one tower, or kind of features, scores with few labels."""
    found = [
        score(task, "few-shot" if "per_class" in place else "label fractions", share, draw, **place)
        for task in tasks
        for place in PLACES
        for draw, share in enumerate(shares(subject, seed, place))
    ]
    trained = subject.endswith("tiny")
    experiment = change(get_experiment(subject if trained else "clip-tiny"), seed=seed)
    budgets = ("equal images",) if trained else ()
    transfer = TransferScores(
        subject=subject, images=80_000 if trained else 0, budgets=budgets, scores=tuple(found)
    )
    record: Record = new_record(
        transfer, experiment if trained or subject == "random init" else None
    )
    return record


def head_record(
    subject: str,
    gains: dict[int, float],
    metrics: Iterable[MetricScore] = (),
    task: str = "animals",
) -> Record:
    """A random head, and for trained towers copied rows that are `gains` better."""
    chance, found = random.Random(f"{subject} {task}"), []
    for per_class, gain in gains.items():
        for draw in range(DRAWS):
            base = round((0.3 + 0.2 * chance.random()) * ITEMS) / ITEMS
            better = round((base + gain + 0.01 * chance.random()) * ITEMS) / ITEMS
            found.append(score(task, "transfer-init, random head", base, draw, per_class=per_class))
            if not subject.startswith("random init"):
                found.append(
                    score(task, "transfer-init, copied rows", better, draw, per_class=per_class)
                )
    images = 0 if subject.startswith("random init") else 39_936
    transfer = TransferScores(
        subject=subject, images=images, budgets=(), scores=tuple(found), metrics=tuple(metrics)
    )
    record: Record = new_record(transfer, get_experiment("catlip-tiny"))
    return record


def metric_record(
    subject: str, values: dict[str, float], baselines: dict[str, float | None]
) -> Record:
    common: dict[str, Any] = {
        "task": "scenes",
        "protocol": "multi-label",
        "num_train": 900,
        "num_test": 1_000,
    }
    found = tuple(
        MetricScore(name=name, value=value, baseline=baselines[name], **common)
        for name, value in values.items()
    )
    transfer = TransferScores(subject=subject, images=80_000, budgets=(), scores=(), metrics=found)
    record: Record = new_record(transfer, get_experiment(subject))
    return record


def shown(found: MeanEstimate) -> str:
    assert found.low is not None
    assert found.high is not None
    return f"{bare(found.value)} ±{bare((found.high - found.low) / 2)}"


def bare(value: float) -> str:
    return f"{value:.3f}"


def row(text: str, table: str, *names: str) -> list[str]:
    rows = Document(text).tables[table]
    return next(
        one
        for one in rows
        if one and [cell.split("|")[0] for cell in one[: len(names)]] == [*names]
    )


FEW = "emoji: accuracy by few-shot against the labelled images per class"
SHARES = "emoji: accuracy by label fractions against the share of the labelled images"


def test_with_one_seed_intervals_are_over_draws() -> None:
    text = render_comparison_page(
        "x",
        [curve_record(name, 0) for name in ("clip-tiny", "catlip-tiny", "random init", "HOG")],
    )
    for name, label in (
        ("clip-tiny", "CLIP"),
        ("catlip-tiny", "CatLIP"),
        ("random init", "random-init baseline"),
    ):
        cells = [
            shown(estimate_mean_over_draws({0: answers(name, 0, place)})) for place in PLACES[:3]
        ]
        assert row(text, FEW, label)[4:] == cells[:2]
        all_labels = bare(shares(name, 0, PLACES[3])[0])
        assert row(text, SHARES, label)[4:] == [cells[2], all_labels]
    assert "do not cover another training" in words(text)


def test_with_three_seeds_intervals_are_over_seeds() -> None:
    text = render_comparison_page("x", [curve_record("clip-tiny", seed) for seed in range(3)])
    found = estimate_mean_over_draws(
        {seed: answers("clip-tiny", seed, PLACES[0]) for seed in range(3)}
    )
    assert found.over == f"3 seeds and {ITEMS} test images"
    assert row(text, FEW, "CLIP")[3:5] == ["3", shown(found)]


@given(st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=4), min_size=3, max_size=5))
def test_a_mean_over_seeds_weighs_each_training_once(runs: list[list[float]]) -> None:
    """However many draws one of them has."""
    found = estimate_mean_over_draws(
        {("x", seed): dict(enumerate(draws)) for seed, draws in enumerate(runs)}
    )
    assert found.value == pytest.approx(fmean(fmean(draws) for draws in runs))
    more = {("x", seed): dict(enumerate(draws * (1 + seed))) for seed, draws in enumerate(runs)}
    assert estimate_mean_over_draws(more).value == pytest.approx(found.value)
    assert estimate_mean_over_draws(more).low == pytest.approx(found.low)


def test_metrics_of_other_tasks_are_shown_with_their_baseline() -> None:
    baselines = {"macro mAP": 0.227, "box AP": None}
    text = render_comparison_page(
        "x",
        [
            metric_record("clip-tiny", {"macro mAP": 0.336, "box AP": 0.041}, baselines),
            metric_record("catlip-tiny", {"macro mAP": 0.344}, baselines),
        ],
    )
    table = "scenes by multi-label"
    assert row(text, table, "CLIP")[2:] == ["1", "0.336", "0.041"]
    assert row(text, table, "CatLIP")[3] == "0.344"
    assert row(text, table, "trivial baseline")[3] == "0.227"
    assert "1,000 test images; 900 for training and validation." in words(text)


def test_gains_of_a_head_are_paired_by_draw() -> None:
    records = [
        head_record("catlip-tiny", {0: 0.2, 1: 0.1, 20: -0.05}),
        head_record("random init", {1: 0}),
        head_record("catlip-tiny", {0: -0.1, 20: 0.3}, task="birds"),
        head_record("elsewhere", {1: 0.1}),
        head_record("random init of elsewhere", {1: 0}),
    ]
    text = render_comparison_page("x", records)
    found: dict[tuple[str, int | None], list[float]] = {}
    assert isinstance(records[0].measured, TransferScores)
    for one in records[0].measured.scores:
        found.setdefault((one.protocol, one.per_class), []).append(one.correct.count("1") / ITEMS)
    table = "animals: heads against the labelled images per class"
    gained = row(text, table, "CatLIP", "copied rows, gain over random")[4:]
    for cell, number in zip(gained, (0, 1, 20), strict=True):
        both = (found[f"transfer-init, {head}", number] for head in ("copied rows", "random head"))
        expected = mean_with_interval([ours - theirs for ours, theirs in zip(*both, strict=True)])
        assert cell.startswith(f"{bare(expected.value)} ±")
