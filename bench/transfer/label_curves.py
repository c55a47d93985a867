"""Scores with few labels -> curves of accuracy against labelled images per class, or against their share of all.

A point is a mean over draws of the labelled images. Its interval is over the test images, and over these draws for one
training or over trainings (each the mean of its draws) from three trainings on; two trainings give no interval.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.interfaces.sections import ComparisonRecords
from bench.records.scores import Score
from bench.statistics.accuracies import Estimate, estimate_mean_over_draws
from bench.tables.formats import NBSP
from bench.tables.groups import group_by
from bench.tables.tables import Table
from bench.transfer.score_tables import subject_name_cell
from bench.transfer.subject_scores import (
    QUESTION_BUDGETS,
    Correct,
    SubjectScore,
    all_scores,
    budgets_of_scores,
)

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
Draws = Mapping[int, Correct]  # answers by draw


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
        gains = dict[float, dict[Run, dict[int, Correct]]]()
        for labels, runs in self.answers.items():
            for run, draws in runs.items():
                base_draws = base.answers.get(labels, {}).get(run, {})
                common = [draw for draw in draws if draw in base_draws]
                if common:
                    differences = {draw: draws[draw] - base_draws[draw] for draw in common}
                    gains.setdefault(labels, {})[run] = differences
        return [(labels, estimate_mean_over_draws(runs)) for labels, runs in gains.items()]

    def points(self) -> list[tuple[float, Estimate]]:
        """Return (number of labels, accuracy), fewest labels first."""
        return [(labels, estimate_mean_over_draws(runs)) for labels, runs in self.answers.items()]


def few_label_curves(comparison: ComparisonRecords) -> list[Curve]:
    """Return all curves: towers in the page's order, then the random-init baseline, then reference features."""

    def curve(scored: SubjectScore) -> tuple[object, ...]:
        score = scored.score
        return score.protocol, score.task, _label_unit(score), scored.subject, scored.images

    scores = [scored for scored in all_scores(comparison) if scored.has_label_number]
    groups = group_by(scores, curve)
    return [_make_curve(scores) for scores in groups.values()]


def _label_unit(score: Score) -> str:
    return SHARE if score.per_class is None else PER_CLASS


def _make_curve(scores: Sequence[SubjectScore]) -> Curve:
    """Return the curve of the scores of one subject on one task by one protocol."""
    answers = dict[float, dict[Run, dict[int, Correct]]]()
    for scored in scores:
        score = scored.score
        labels = score.label_share if score.per_class is None else score.per_class
        name = scored.experiment.name if scored.experiment else ""
        runs = answers.setdefault(labels or 0, {})
        runs.setdefault((name, scored.seed), {})[score.draw] = scored.correct
    first = scores[0]
    return Curve(
        task=first.score.task,
        protocol=first.score.protocol,
        label_unit=_label_unit(first.score),
        subject=first.subject,
        is_reference=first.is_reference,
        images=first.images,
        budgets=budgets_of_scores(scores),
        majority=first.score.majority,
        answers=dict(sorted(answers.items())),
    )


def choose_curve_per_subject(curves: Sequence[Curve]) -> list[Curve]:
    """Return one curve per subject: its tower at equal images if there is one, else its tower after the most images."""

    def rank(curve: Curve) -> tuple[bool, int]:
        return QUESTION_BUDGETS[0] in curve.budgets, curve.images

    chosen = dict[str, Curve]()
    for curve in curves:
        best = chosen.setdefault(curve.subject, curve)
        if rank(curve) >= rank(best):
            chosen[curve.subject] = curve
    return list(chosen.values())


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
    rows = []
    for curve in curves:
        row: dict[str, Any] = {
            "features": subject_name_cell(comparison, curve.subject).text,
            "protocol": curve.head or curve.protocol,
            "images seen": curve.images or None,
            "seeds": curve.seeds,
        }
        rows.append(row | _figures(curve.label_unit, curve.points()))
        for base in curves:
            is_of_same_tower = base.subject == curve.subject and base.images == curve.images
            if is_of_same_tower and base.head == RANDOM_HEAD and curve.head != RANDOM_HEAD:
                gain_row = row | {"protocol": f"{curve.head}, gain over random"}
                gain_row |= _figures(curve.label_unit, curve.gains(base))
                rows.append(gain_row)
    protocol = "heads" if first.head else f"accuracy by {first.protocol}"
    title = f"{first.task}: {protocol} against the {first.label_unit}"
    return Table.from_dicts(title, rows)


def _figures(unit: str, points: Sequence[tuple[float, Estimate]]) -> dict[str, Any]:
    figures = {}
    for labels, estimate in points:
        figures[format_labels(unit, labels)] = (estimate.value, estimate.low, estimate.high)
    return figures
