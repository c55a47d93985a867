"""Transfer records -> the accuracy of each tower on a task, over test images (one seed) or over training seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.catalog import RANDOM_INIT
from bench.config import Experiment
from bench.record import Transfer
from bench.scores import Score
from bench.sections import ComparisonRecords
from bench.statistics import Answers, Estimate, accuracy_interval, mean_interval
from bench.transfer.score_tables import PROBE, correct_per_item, estimate_mean
from reports.render.frames import group_by

QUESTION_BUDGETS = ("equal images", "equal device seconds")


@dataclass(frozen=True, slots=True)
class SubjectScore:
    """The score of one tower, or of one kind of reference features, on one task by one protocol."""

    subject: str
    is_reference: bool
    experiment: Experiment | None
    images: int
    budgets: tuple[str, ...]
    score: Score

    @property
    def seed(self) -> int | None:
        """The training seed; None for features without random weights."""
        return self.experiment.seed if self.experiment else None

    @property
    def correct(self) -> npt.NDArray[np.float64]:
        """1.0 for each test image that was classified correctly, else 0.0."""
        return correct_per_item(self.score)

    @property
    def accuracy(self) -> float:
        """The share of test images classified correctly."""
        return self.score.accuracy


@dataclass(frozen=True, slots=True)
class ScorePoint:
    """The accuracy of a subject after a number of images, on one task by one protocol, over its seeds."""

    subject: str
    is_reference: bool
    images: int
    budgets: tuple[str, ...]
    runs: tuple[SubjectScore, ...]  # one per seed
    accuracy: Estimate
    gain: Estimate | None  # over the random-init baseline; None for the baseline itself, or without one

    def by_seed(self) -> dict[int | None, Answers]:
        """Return what the tower of each seed answered."""
        return {run.seed: run.correct for run in self.runs}


def whole_task_scores(comparison: ComparisonRecords) -> list[SubjectScore]:
    """Return the scores on whole tasks; `label_curves.py` has those of few labels."""
    return [one for one in all_scores(comparison) if one.score.per_class is None and one.score.label_share is None]


def all_scores(comparison: ComparisonRecords) -> list[SubjectScore]:
    """Return all scores: experiments in the page's order, then the random-init baseline, then reference features."""
    found = [
        SubjectScore(
            transfer.subject,
            record.experiment is None or transfer.subject != record.experiment.name,
            record.experiment,
            transfer.images,
            transfer.budgets,
            score,
        )
        for record, transfer in comparison.of(Transfer)
        for score in transfer.scores
    ]
    order = [*comparison.experiments, RANDOM_INIT]
    return sorted(found, key=lambda one: (index_or_end(order, one.subject), one.subject, one.images, one.seed or 0))


def scored_tasks(answers: Sequence[SubjectScore]) -> list[str]:
    """Return the tasks in the order of the records."""
    return list(dict.fromkeys(one.score.task for one in answers))


def scored_protocols(answers: Sequence[SubjectScore]) -> list[str]:
    """Return the protocols, the linear probe first."""
    return sorted(dict.fromkeys(one.score.protocol for one in answers), key=lambda protocol: protocol != PROBE)


def main_protocol(answers: Sequence[SubjectScore], task: str) -> str:
    """Return the linear probe, or the first protocol of a task that no probe scores."""
    return scored_protocols([one for one in answers if one.score.task == task])[0]


def main_points(answers: Sequence[SubjectScore], task: str) -> list["ScorePoint"]:
    """Return the points of a task by its main protocol."""
    return group_scores_over_seeds(answers, task, main_protocol(answers, task))


def scored_budgets(answers: Sequence[SubjectScore]) -> list[str]:
    """Return the budgets at which towers were scored, those of the page's question first."""
    found = dict.fromkeys(budget for one in answers if not one.is_reference for budget in one.budgets)
    return sorted(found, key=lambda budget: index_or_end(QUESTION_BUDGETS, budget))


def headline_budgets(answers: Sequence[SubjectScore]) -> list[str]:
    """Return the budgets of the page's question, or the first budget where none of these was scored."""
    found = scored_budgets(answers)
    return [budget for budget in found if budget in QUESTION_BUDGETS] or found[:1]


def group_scores_over_seeds(answers: Sequence[SubjectScore], task: str, protocol: str) -> list[ScorePoint]:
    """Group the scores on a task by subject and images, over seeds."""
    chosen = [one for one in answers if (one.score.task, one.score.protocol) == (task, protocol)]
    random_inits = [one for one in chosen if one.subject == RANDOM_INIT]
    groups = group_by(chosen, lambda one: (one.subject, one.images, _random_init_kind(one)))
    return [_score_point(group, random_inits) for group in groups.values()]


def _random_init_kind(scored: SubjectScore) -> object:
    """Return what the features of a random-init baseline depend on beside its seed; None for other features."""
    return scored.experiment.image.random_init_kind if scored.subject == RANDOM_INIT and scored.experiment else None


def towers_at_budget(found: Sequence[ScorePoint], budget: str) -> list[ScorePoint]:
    """Return the trained towers at a budget."""
    return [point for point in found if not point.is_reference and budget in point.budgets]


def fewest_seeds(answers: Sequence[SubjectScore]) -> int:
    """Return the number of training seeds of the trained subject that has the fewest."""
    trained = group_by((one for one in answers if not one.is_reference), lambda one: one.subject)
    return min((len({one.seed for one in scores}) for scores in trained.values()), default=0)


def scores_frame(comparison: ComparisonRecords) -> pd.DataFrame:
    """Return one row per tower, task and protocol."""
    rows = []
    for one in whole_task_scores(comparison):
        interval = accuracy_interval(one.correct.tolist())
        rows.append(
            {
                "subject": one.subject,
                "seed": one.seed if not one.is_reference or one.subject == RANDOM_INIT else None,
                "images": one.images,
                "budgets": "; ".join(one.budgets),
                "task": one.score.task,
                "protocol": one.score.protocol,
                "accuracy": one.accuracy,
                "low": interval.low,
                "high": interval.high,
                "num_test": len(one.score.correct),
                "num_train": one.score.num_train,
                "num_classes": one.score.num_classes,
                "majority": one.score.majority,
                "chosen": one.score.chosen,
                "validation_accuracy": one.score.validation_accuracy,
                "converged": one.score.converged,
            }
        )
    frame = pd.DataFrame(rows)
    return frame.astype({"seed": "Int64"}) if rows else frame


def index_or_end(order: Sequence[str], name: str) -> int:
    """Return the index of a name in an order; the length of the order for one that is not in it."""
    return order.index(name) if name in order else len(order)


def _score_point(runs: Sequence[SubjectScore], random_inits: Sequence[SubjectScore]) -> ScorePoint:
    first = runs[0]
    pairs = [(random_init, run) for run in runs if (random_init := _random_init_for(run, random_inits)) is not None]
    gain = None
    if first.subject != RANDOM_INIT and pairs:
        gain = estimate_mean([run.correct - random_init.correct for random_init, run in pairs], mean_interval)
    budgets = tuple(dict.fromkeys(budget for run in runs for budget in run.budgets))
    accuracy = estimate_mean([run.correct for run in runs], accuracy_interval)
    return ScorePoint(first.subject, first.is_reference, first.images, budgets, tuple(runs), accuracy, gain)


def _random_init_for(scored: SubjectScore, random_inits: Sequence[SubjectScore]) -> SubjectScore | None:
    """Return the random-init baseline of the same tower, with the same pooling and seed where there is one."""
    same = [other for other in random_inits if len(other.score.correct) == len(scored.score.correct)]
    if not scored.is_reference and (own := scored.experiment) is not None:
        shape = own.image.tower, own.image.image_size
        same = [
            o
            for o in same
            if o.experiment is None or (o.experiment.image.tower, o.experiment.image.image_size) == shape
        ]
        same = [other for other in same if _random_init_kind(other) == own.image.random_init_kind] or same
        same = [other for other in same if other.seed == scored.seed] or same
    return same[0] if same else None
