"""Scores with few labels -> curves of accuracy against labelled images per class, or against their share of all.

A point is a mean over draws of the labelled images. Its interval is over the test images, and over these draws for one
training or over trainings (each the mean of its draws) from three trainings on; two trainings give no interval.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.interfaces.sections import ComparisonRecords
from bench.records.scores import Score
from bench.statistics.accuracies import SEEDS_FOR_INTERVAL, Estimate, estimate_over_draws
from bench.tables.formats import INTERVAL, NBSP, join_words, pluralize
from bench.transfer.classification import label_subsets
from bench.transfer.subject_scores import QUESTION_BUDGETS, SubjectScore, all_scores

INIT_PROTOCOL = "transfer-init"
RANDOM_HEAD = "random head"
COPIED_ROWS = "copied rows"  # head that starts with the rows of a classifier
CLASS_NAMES = "class names"  # head of a text tower
PROMPTS = "prompt templates"  # head of a text tower
PER_CLASS = "labelled images per class"
SHARE = "share of the labelled images"
PERCENT = f"{NBSP}%"
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
    num_classes: int
    labelled_images: Mapping[float, int]  # training images by number of labels
    answers: Mapping[float, Mapping[Run, Draws]]  # by number of labels, fewest first

    @property
    def key(self) -> tuple[object, ...]:
        """Return the values that distinguish the curve from all others of its page."""
        return self.task, self.protocol, self.label_unit, self.subject, self.images

    @property
    def head(self) -> str:
        """The name of the initialised head; empty for a probe."""
        return self.protocol.partition(f"{INIT_PROTOCOL}, ")[2]

    @property
    def seeds(self) -> int:
        """The number of trainings."""
        return len({run for runs in self.answers.values() for run in runs})

    def at(self, labels: float) -> Estimate | None:
        """Return the accuracy at a number of labels; None where it was not scored."""
        runs = self.answers.get(labels)
        return None if runs is None else estimate_over_draws(runs)

    def gain(self, base: "Curve", labels: float) -> Estimate | None:
        """Return the gain over another curve at a number of labels, on the same draws of the same trainings."""
        gains = dict[Run, dict[int, npt.NDArray[np.float64]]]()
        for run, draws in self.answers.get(labels, {}).items():
            base_draws = base.answers.get(labels, {}).get(run, {})
            common = {
                draw: answers - base_draws[draw]
                for draw, answers in draws.items()
                if draw in base_draws
            }
            if common:
                gains[run] = common
        return estimate_over_draws(gains) if gains else None

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


def _label_count(score: Score) -> float:
    """Return the number of labelled images per class, or the share of the labels."""
    return float(score.label_share or 0.0) if score.per_class is None else float(score.per_class)


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


def describe_shares_left_out(curves: Sequence[Curve]) -> str:
    """Return the shares of the labels that were not scored, and why; empty where all or none were."""
    scored = {labels for curve in curves if curve.label_unit == SHARE for labels in curve.answers}
    absent = [format_labels(SHARE, share) for share in label_subsets.SHARES if share not in scored]
    if not scored or not absent:
        return ""
    return f"{join_words(absent)}: the same images as another share, because each class has at least one."


def describe_small_classes(curves: Sequence[Curve]) -> str:
    """Return the numbers of labelled images per class that exceed the size of some class; empty where none does."""
    short = {
        labels
        for curve in curves
        for labels, images in curve.labelled_images.items()
        if curve.label_unit == PER_CLASS and images < labels * curve.num_classes
    }
    numbers = join_words([f"{labels:g}" for labels in sorted(short)])
    return (
        f"{numbers} per class: classes with fewer images contribute all of theirs." if short else ""
    )


def describe_repetition(curves: Sequence[Curve]) -> str:
    """Return a sentence on the unit of repetition of the curves' intervals."""
    most_seeds = max((curve.seeds for curve in curves if not curve.is_reference), default=1)
    numbers = {
        len(draws) for curve in curves for runs in curve.answers.values() for draws in runs.values()
    }
    several = [f"{number:,}" for number in sorted(numbers - {1})]
    over = f"{join_words(several)} draws of the labelled images" if several else "one draw"
    sentence = f"Each point is the mean of {over}, the same for every row."
    if most_seeds >= SEEDS_FOR_INTERVAL:
        return (
            f"{sentence} Intervals of {INTERVAL} are over the test images, and of towers with {SEEDS_FOR_INTERVAL} "
            "training seeds or more over these seeds, all others over the draws."
        )
    if most_seeds > 1:
        return f"{sentence} {pluralize(most_seeds, 'training seed')}: means over both, no interval."
    return (
        f"{sentence} Intervals of {INTERVAL} are over these draws and the test images, for one training each; they do "
        "not cover another training, so methods are not ranked."
    )


def _make_curve(scores: Sequence[SubjectScore]) -> Curve:
    """Return the curve of the scores of one subject on one task by one protocol."""
    answers = dict[float, dict[Run, dict[int, npt.NDArray[np.float64]]]]()
    for scored in scores:
        run = (scored.experiment.name if scored.experiment else "", scored.seed)
        runs = answers.setdefault(_label_count(scored.score), {})
        runs.setdefault(run, {})[scored.score.draw] = scored.correct
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
        num_classes=first.score.num_classes,
        labelled_images={_label_count(scored.score): scored.score.num_train for scored in scores},
        answers=dict(sorted(answers.items())),
    )
