"""Curves of accuracy against the number of labelled images per class, or against their share of all, from scores.

A point is the mean over draws of the labelled images. With one training its interval is over test images and draws,
with three or more over test images and trainings (each the mean of its draws); with two there is none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.interfaces.sections import ComparisonView
from bench.statistics.accuracies import MeanEstimate, estimate_mean_over_draws
from bench.tables.formats import NBSP
from bench.tables.groups import group_by
from bench.tables.tables import Table
from bench.transfer.score_tables import tower_or_reference_name_cell
from bench.transfer.subject_scores import (
    CorrectItems,
    TowerOrReferenceScore,
    collect_all_scores,
)

RANDOM_HEAD = "random head"
COPIED_ROWS = "copied rows"  # head that starts with the rows of a classifier
PROMPTS = "prompt templates"  # head of a text tower
PER_CLASS = "labelled images per class"
SHARE = "share of the labelled images"
CURVES_NOTE = (
    "Means over draws of the labelled images, the same for every row; one draw has no interval. With one training, "
    "intervals are over the draws and do not cover another training."
)
TrainingKey = tuple[str, int | None]  # name and seed of an experiment
CorrectByDraw = Mapping[int, CorrectItems]


@dataclass(frozen=True, slots=True)
class LabelCurve:
    """Which test images a tower (of all seeds) or reference features classified right, at each number of labels."""

    task: str
    protocol: str
    label_unit: str  # PER_CLASS or SHARE
    subject: str
    images_seen: int  # in pre-training
    # By number of labels in `label_unit` as text, fewest first, and training.
    correct: Mapping[str, Mapping[TrainingKey, CorrectByDraw]]

    @property
    def initial_head_name(self) -> str:
        """The name of the initial head; empty for a probe."""
        prefix = format_init_protocol_name("")
        return self.protocol.removeprefix(prefix) if self.protocol.startswith(prefix) else ""

    @property
    def key_of_shared_table(self) -> tuple[str, str, str]:
        """What the curves of one table share; the heads of a task are in one."""
        protocol = "" if self.initial_head_name else self.protocol
        return protocol, self.label_unit, self.task

    @property
    def num_trainings(self) -> int:
        """The number of trainings."""
        return len({training for trainings in self.correct.values() for training in trainings})

    def accuracies(self) -> dict[str, MeanEstimate]:
        """Return the accuracy by number of labels."""
        return {labels: estimate_mean_over_draws(draws) for labels, draws in self.correct.items()}

    def gains_over(self, base: "LabelCurve") -> dict[str, MeanEstimate]:
        """Return the gain over a curve with the same trainings and draws, by number of labels."""
        gains = {}
        for labels, trainings in self.correct.items():
            differences = {}
            for training, draws in trainings.items():
                base_draws = base.correct[labels][training]
                differences[training] = {draw: draws[draw] - base_draws[draw] for draw in draws}
            gains[labels] = estimate_mean_over_draws(differences)
        return gains


def format_init_protocol_name(head: str) -> str:
    """Return the name of the protocol that scores an initial head; `LabelCurve.initial_head_name` is its inverse."""
    return f"transfer-init, {head}"


def collect_label_curves(comparison: ComparisonView) -> list[LabelCurve]:
    """Return all curves: towers in the page's order, then the random-init baseline, then reference features."""

    def curve_key(scored: TowerOrReferenceScore) -> tuple[object, ...]:
        score = scored.score
        is_share = score.per_class is None
        return score.protocol, score.task, is_share, scored.subject, scored.images_seen

    scores = [scored for scored in collect_all_scores(comparison) if scored.is_of_label_curve]
    return [_make_curve(group) for group in group_by(scores, curve_key).values()]


def _make_curve(scores: Sequence[TowerOrReferenceScore]) -> LabelCurve:
    """Return the curve of the scores of one subject on one task by one protocol."""

    def number_of_labels(scored: TowerOrReferenceScore) -> float:
        return scored.score.per_class or scored.score.label_share or 0.0

    first = scores[0]
    is_share = first.score.per_class is None
    correct: dict[str, dict[TrainingKey, dict[int, CorrectItems]]] = {}
    for scored in sorted(scores, key=number_of_labels):
        labels = number_of_labels(scored)
        text = f"{100 * labels:g}{NBSP}%" if is_share else f"{labels:g}"
        name = scored.experiment.name if scored.experiment else ""
        draws = correct.setdefault(text, {}).setdefault((name, scored.seed), {})
        draws[scored.score.draw] = scored.correct_items
    return LabelCurve(
        task=first.score.task,
        protocol=first.score.protocol,
        label_unit=SHARE if is_share else PER_CLASS,
        subject=first.subject,
        images_seen=first.images_seen,
        correct=correct,
    )


def label_curve_tables(comparison: ComparisonView, curves: Sequence[LabelCurve]) -> list[Table]:
    """Return a table for each task, by protocol and unit of the number of labels; all heads of a task are in one."""
    groups = group_by(curves, lambda curve: curve.key_of_shared_table)
    return [_label_curve_table(comparison, group) for group in groups.values()]


def _label_curve_table(comparison: ComparisonView, curves: Sequence[LabelCurve]) -> Table:
    """Return a table with the accuracy of towers and references on one task at each number of labels.

    A head that starts from pre-training has a second row: its gain over the random head on the same draws.
    """
    first = curves[0]
    rows = []
    for curve in curves:
        row: dict[str, Any] = {
            "features": tower_or_reference_name_cell(comparison, curve.subject).text,
            "protocol": curve.initial_head_name or curve.protocol,
            "images seen": curve.images_seen or None,
            "seeds": curve.num_trainings,
        }
        rows.append(row | curve.accuracies())
        base = _random_head_curve(curves, curve)
        if base is not None and base is not curve:
            gain_row = row | {"protocol": f"{curve.initial_head_name}, gain over random"}
            rows.append(gain_row | curve.gains_over(base))
    measured = "heads" if first.initial_head_name else f"accuracy by {first.protocol}"
    title = f"{first.task}: {measured} against the {first.label_unit}"
    return Table.from_dicts(title, rows)


def _random_head_curve(curves: Sequence[LabelCurve], curve: LabelCurve) -> LabelCurve | None:
    """Return the curve of the random head of the same tower; None if there is none."""
    for base in curves:
        is_of_same_tower = (base.subject, base.images_seen) == (curve.subject, curve.images_seen)
        if is_of_same_tower and base.initial_head_name == RANDOM_HEAD:
            return base
    return None
