"""Transfer records -> what each tower scores on a task: over test images, or over seeds where there are several.

With one seed an interval is over test images; with three or more it is over seeds; two give no interval at all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

import pandas as pd

from bench.config import Experiment
from bench.record import Score, Transfer
from bench.statistics import Interval, accuracy_interval, mean_interval, paired_difference
from reports.render.frames import Comparison

FLOOR = "random tower"
PROBE = "linear probe"
ANSWERING = ("equal images", "equal device seconds")
SEEDS_FOR_INTERVAL = 3
SEEDS_FOR_RANKING = 5


@dataclass(frozen=True, slots=True)
class Scored:
    """One tower's (or reference feature's) answers on one task by one protocol."""

    subject: str
    is_reference: bool
    experiment: Experiment | None
    images: int
    budgets: tuple[str, ...]
    score: Score

    @property
    def seed(self) -> int | None:
        """The training run's seed; None where nothing was drawn."""
        return self.experiment.seed if self.experiment else None

    @property
    def correct(self) -> list[bool]:
        """Whether each test image was answered rightly."""
        return [answer == "1" for answer in self.score.correct]

    @property
    def accuracy(self) -> float:
        """The share of test images answered rightly."""
        return self.score.correct.count("1") / len(self.score.correct)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, its interval where there is one, and what that is over."""

    value: float
    low: float | None
    high: float | None
    over: str


@dataclass(frozen=True, slots=True)
class Point:
    """A subject after so many images, on one task by one protocol, over its seeds."""

    subject: str
    is_reference: bool
    images: int
    budgets: tuple[str, ...]
    runs: tuple[Scored, ...]  # one for each seed
    accuracy: Estimate
    gain: Estimate | None  # over the untrained tower; None for itself, or where there is none to compare with


@dataclass(frozen=True, slots=True)
class Paired:
    """By how much one subject is better than another over their common seeds."""

    seeds: int
    difference: Interval


def scored(comparison: Comparison) -> list[Scored]:
    """Return the answers on whole tasks; those on few labels are points of curves (`label_curves.py`)."""
    return [one for one in every_answer(comparison) if one.score.per_class is None and one.score.label_share is None]


def every_answer(comparison: Comparison) -> list[Scored]:
    """Return all answers: experiments in the page's order, then the untrained tower, then reference features."""
    found = [
        Scored(
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
    order = [*comparison.experiments, FLOOR]
    return sorted(found, key=lambda one: (_place(order, one.subject), one.subject, one.images, one.seed or 0))


def tasks(answers: Sequence[Scored]) -> list[str]:
    """Return the tasks in the order in which the records hold them."""
    return list(dict.fromkeys(one.score.task for one in answers))


def protocols(answers: Sequence[Scored]) -> list[str]:
    """Return the protocols, the linear probe first."""
    found = dict.fromkeys(one.score.protocol for one in answers)
    return sorted(found, key=lambda protocol: protocol != PROBE)


def budgets(answers: Sequence[Scored]) -> list[str]:
    """Return the budgets at which towers were scored, those that answer the question first."""
    found = dict.fromkeys(budget for one in answers if not one.is_reference for budget in one.budgets)
    return sorted(found, key=lambda budget: _place(ANSWERING, budget))


def answering(answers: Sequence[Scored]) -> list[str]:
    """Return the budgets that answer the question, or the first one where none of these was scored."""
    found = budgets(answers)
    return [budget for budget in found if budget in ANSWERING] or found[:1]


def points(answers: Sequence[Scored], task: str, protocol: str) -> list[Point]:
    """Group a task's answers by subject and images, over seeds."""
    chosen = [one for one in answers if (one.score.task, one.score.protocol) == (task, protocol)]
    floors = [one for one in chosen if one.subject == FLOOR]
    groups: dict[tuple[str, int], list[Scored]] = {}
    for one in chosen:
        groups.setdefault((one.subject, one.images), []).append(one)
    return [_point(group, floors) for group in groups.values()]


def at_budget(found: Sequence[Point], budget: str) -> list[Point]:
    """Return the trained towers that were branched off for a budget."""
    return [point for point in found if not point.is_reference and budget in point.budgets]


def paired(base: Point, other: Point) -> Paired | None:
    """Compare two subjects over the seeds that both have; None under five, where none may be called better."""
    first, second = ({run.seed: run.accuracy for run in point.runs} for point in (base, other))
    common = [seed for seed in first if seed in second]
    if len(common) < SEEDS_FOR_RANKING:
        return None
    return Paired(len(common), mean_interval([second[seed] - first[seed] for seed in common]))


def fewest_seeds(answers: Sequence[Scored]) -> int:
    """Return how many training seeds every trained subject has at least."""
    seeds: dict[str, set[int | None]] = {}
    for one in answers:
        if not one.is_reference:
            seeds.setdefault(one.subject, set()).add(one.seed)
    return min(map(len, seeds.values()), default=0)


def scores_frame(comparison: Comparison) -> pd.DataFrame:
    """Return one row for each tower, task and protocol."""
    rows = []
    for one in scored(comparison):
        interval = accuracy_interval(one.correct)
        rows.append(
            {
                "subject": one.subject,
                "seed": one.seed if not one.is_reference or one.subject == FLOOR else None,
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


def _point(runs: Sequence[Scored], floors: Sequence[Scored]) -> Point:
    first = runs[0]
    pairs = [(floor, run) for run in runs if (floor := _floor_for(run, floors)) is not None]
    gain = None if first.subject == FLOOR or not pairs else _gain(pairs)
    told = tuple(dict.fromkeys(budget for run in runs for budget in run.budgets))
    values = [run.accuracy for run in runs]
    accuracy = _estimate(values, first, accuracy_interval)
    return Point(first.subject, first.is_reference, first.images, told, tuple(runs), accuracy, gain)


def _gain(pairs: Sequence[tuple[Scored, Scored]]) -> Estimate:
    """Subtract each run's own floor; one run is compared item by item."""
    values = [run.accuracy - floor.accuracy for floor, run in pairs]
    floor, run = pairs[0]
    return _estimate(values, run, lambda correct: paired_difference(floor.correct, correct))


def _estimate(values: Sequence[float], run: Scored, over_items: Callable[[Sequence[bool]], Interval]) -> Estimate:
    if len(values) >= SEEDS_FOR_INTERVAL:
        found = mean_interval(values)
        return Estimate(found.value, found.low, found.high, f"{len(values)} seeds")
    if len(values) == 1 and len(run.score.correct) > 1:
        found = over_items(run.correct)
        return Estimate(found.value, found.low, found.high, f"{len(run.score.correct):,} test images")
    return Estimate(fmean(values), None, None, f"{len(values)} seeds, no interval")


def _floor_for(one: Scored, floors: Sequence[Scored]) -> Scored | None:
    """Return the untrained tower of the same shape, of the same seed where there is one."""
    same_items = [floor for floor in floors if len(floor.score.correct) == len(one.score.correct)]
    if one.is_reference or one.experiment is None:
        return same_items[0] if same_items else None
    shape = _shape(one.experiment)
    same = [floor for floor in same_items if floor.experiment is None or _shape(floor.experiment) == shape]
    return next((floor for floor in same if floor.seed == one.seed), same[0] if same else None)


def _shape(experiment: Experiment) -> tuple[str, int]:
    return experiment.tower, experiment.image_size


def _place(order: Sequence[str], subject: str) -> int:
    return order.index(subject) if subject in order else len(order)
