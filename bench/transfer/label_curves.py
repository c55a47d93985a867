"""Scores with few labels -> curves of accuracy against labelled images per class, or against their share of all.

A point is a mean over draws of the labelled images. Its interval is over the test images, and over these draws for one
training or over trainings (each the mean of its draws) from three trainings on; two trainings give no interval.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.interfaces.sections import ComparisonRecords
from bench.records.scores import Score
from bench.statistics.accuracies import Estimate, estimate_over_draws
from bench.tables.formats import NBSP
from bench.tables.tables import Table
from bench.transfer.score_tables import subject_name_cell
from bench.transfer.subject_scores import QUESTION_BUDGETS, SubjectScore, all_scores

INIT_PROTOCOL = "transfer-init"
RANDOM_HEAD = "random head"
COPIED_ROWS = "copied rows"  # head that starts with the rows of a classifier
PROMPTS = "prompt templates"  # head of a text tower
PER_CLASS = "labelled images per class"
SHARE = "share of the labelled images"
PERCENT = f"{NBSP}%"
CURVES_NOTE = (
    "Means over draws of the labelled images, the same for every row; one draw has no interval. With one training, "
    "intervals are over the draws and do not cover another training."
)
Run = tuple[str, int | None]  # name and seed of an experiment
Draws = Mapping[int, npt.NDArray[np.float64]]  # answers by draw


@dataclass(frozen=True, slots=True)
class Curve:
    """The accuracy of one tower (over its seeds) or of reference features on a task at each number of labels."""

    task: str
    protocol: str
    label_unit: str  # PER_CLASS or SHARE
    subject: str
    is_reference: bool
    images: int
    budgets: tuple[str, ...]
    majority: float
    answers: Mapping[float, Mapping[Run, Draws]]  # by number of labels, fewest first

    @property
    def head(self) -> str:
        """The name of the initialised head; empty for a probe."""
        return self.protocol.partition(f"{INIT_PROTOCOL}, ")[2]

    @property
    def seeds(self) -> int:
        """The number of trainings."""
        return len({run for runs in self.answers.values() for run in runs})

    def gains(self, base: "Curve") -> list[tuple[float, Estimate]]:
        """Return (number of labels, gain over another curve on the same draws of the same trainings)."""
        gains = dict[float, dict[Run, dict[int, npt.NDArray[np.float64]]]]()
        for labels, runs in self.answers.items():
            for run, draws in runs.items():
                base_draws = base.answers.get(labels, {}).get(run, {})
                for draw, answers in draws.items():
                    if draw in base_draws:
                        gains_of_run = gains.setdefault(labels, {}).setdefault(run, {})
                        gains_of_run[draw] = answers - base_draws[draw]
        return [(labels, estimate_over_draws(runs)) for labels, runs in gains.items()]

    def points(self) -> list[tuple[float, Estimate]]:
        """Return (number of labels, accuracy), fewest labels first."""
        return [(labels, estimate_over_draws(runs)) for labels, runs in self.answers.items()]


def few_label_curves(comparison: ComparisonRecords) -> list[Curve]:
    """Return all curves: towers in the page's order, then the random-init baseline, then reference features."""
    groups: dict[tuple[str, str, str, str, int], list[SubjectScore]] = {}
    for scored in all_scores(comparison):
        score = scored.score
        if score.per_class is not None or score.label_share is not None:
            key = (score.protocol, score.task, _label_unit(score), scored.subject, scored.images)
            groups.setdefault(key, []).append(scored)
    return [_make_curve(scores) for scores in groups.values()]


def _label_unit(score: Score) -> str:
    return SHARE if score.per_class is None else PER_CLASS


def _make_curve(scores: Sequence[SubjectScore]) -> Curve:
    """Return the curve of the scores of one subject on one task by one protocol."""
    answers = dict[float, dict[Run, dict[int, npt.NDArray[np.float64]]]]()
    for scored in scores:
        score = scored.score
        labels = score.label_share if score.per_class is None else score.per_class
        run = (scored.experiment.name if scored.experiment else "", scored.seed)
        answers.setdefault(labels or 0, {}).setdefault(run, {})[score.draw] = scored.correct
    first = scores[0]
    return Curve(
        task=first.score.task,
        protocol=first.score.protocol,
        label_unit=_label_unit(first.score),
        subject=first.subject,
        is_reference=first.is_reference,
        images=first.images,
        budgets=tuple(dict.fromkeys(budget for scored in scores for budget in scored.budgets)),
        majority=first.score.majority,
        answers=dict(sorted(answers.items())),
    )


def choose_curve_per_subject(curves: Sequence[Curve]) -> list[Curve]:
    """Return one curve per subject: of its tower at equal images where there is one, else of the most images."""
    in_order = sorted(
        curves, key=lambda curve: (QUESTION_BUDGETS[0] in curve.budgets, curve.images)
    )
    chosen = {curve.subject: curve for curve in in_order}
    return [chosen[subject] for subject in dict.fromkeys(curve.subject for curve in curves)]


def label_counts(curves: Sequence[Curve]) -> list[float]:
    """Return the numbers of labels at which any of the curves has a point."""
    return sorted({labels for curve in curves for labels in curve.answers})


def format_labels(unit: str, labels: float) -> str:
    """Write a number of labels: 5, or 25 %."""
    if unit == SHARE:
        return f"{100 * labels:g}{PERCENT}"
    return f"{labels:g}" if labels else "none"


def curve_table(comparison: ComparisonRecords, curves: Sequence[Curve]) -> Table:
    """Show the accuracy of towers and references on one task at each number of labels.

    A head that starts from pre-training has a second row: its gain over the random head on the same draws.
    """
    first = curves[0]
    rows = list[dict[str, Any]]()
    for curve in curves:
        row = {
            "features": subject_name_cell(comparison, curve.subject).text,
            "protocol": curve.head or curve.protocol,
            "images seen": curve.images or None,
            "seeds": curve.seeds,
        }
        rows.append(row | _figures(curve.label_unit, curve.points()))
        for base in curves:
            is_of_same_tower = (base.subject, base.images) == (curve.subject, curve.images)
            if is_of_same_tower and base.head == RANDOM_HEAD != curve.head:
                gains = _figures(curve.label_unit, curve.gains(base))
                rows.append(row | {"protocol": f"{curve.head}, gain over random"} | gains)
    protocol = "heads" if first.head else f"accuracy by {first.protocol}"
    return Table.of_figures(f"{first.task}: {protocol} against the {first.label_unit}", rows)


def _figures(unit: str, points: Sequence[tuple[float, Estimate]]) -> dict[str, Any]:
    return {
        format_labels(unit, labels): (estimate.value, estimate.low, estimate.high)
        for labels, estimate in points
    }
