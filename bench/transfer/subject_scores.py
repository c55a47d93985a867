"""The accuracy of each tower on a task from transfer records, over test images (one seed) or over training seeds."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from bench.experiment.config import Experiment
from bench.experiment.fields import RandomInitKey
from bench.interfaces.catalog import DEFAULT_TASKS, RANDOM_INIT, REFERENCES
from bench.interfaces.sections import ComparisonView
from bench.records.record import EQUAL_SECONDS, TransferScores
from bench.records.scores import AccuracyScore
from bench.statistics.accuracies import ItemScores, MeanEstimate, estimate_mean_over_seeds
from bench.statistics.intervals import (
    ValueWithInterval,
    accuracy_with_wilson_interval,
    mean_with_interval,
)
from bench.tables.groups import group_by

PROBE = "linear probe"
RETRIEVAL = "retrieval"
CorrectItems = npt.NDArray[np.float64]  # 1.0 for each test item that was answered right, else 0.0


@dataclass(frozen=True, slots=True)
class EqualBudget:
    """The budget at which towers are compared: equal images seen, or equal seconds on the device.

    The seconds are those that the slowest experiment of a comparison needs for its images.
    """

    images: int | None  # None: equal device seconds

    def __str__(self) -> str:
        """Return the budget as columns, headings and sentences name it."""
        if self.images is None:
            return "after equal device seconds"
        return f"after {self.images:,} images"


@dataclass(frozen=True, slots=True)
class TowerOrReferenceScore:
    """The score of one tower, or of one kind of reference features, on one task by one protocol."""

    subject: str
    is_reference: bool
    experiment: Experiment | None
    images_seen: int  # in pre-training
    budgets: tuple[EqualBudget, ...]
    score: AccuracyScore

    @property
    def seed(self) -> int | None:
        """The training seed; None for features without random weights."""
        return self.experiment.seed if self.experiment else None

    @property
    def random_init_key(self) -> RandomInitKey | None:
        """What the features of the untrained tower depend on, apart from the seed."""
        return self.experiment.image.random_init_key if self.experiment else None

    @property
    def is_of_label_curve(self) -> bool:
        """Whether the score belongs to a curve over numbers of labels; else it is of all labels."""
        return self.score.per_class is not None or self.score.label_share is not None

    @property
    def correct_items(self) -> CorrectItems:
        """1.0 for each test image that was classified correctly, else 0.0."""
        digits = np.frombuffer(self.score.correct.encode(), np.uint8)
        return digits.astype(np.float64) - ord("0")


@dataclass(frozen=True, slots=True)
class TowerOrReferenceAccuracy:
    """The accuracy of a tower or of reference features on one task by one protocol: the mean over training seeds."""

    subject: str
    is_reference: bool
    images_seen: int  # in pre-training
    budgets: tuple[EqualBudget, ...]
    seed_scores: tuple[TowerOrReferenceScore, ...]  # one per seed
    accuracy: MeanEstimate
    # Over the random-init baseline; None for the baseline itself, or without one.
    gain: MeanEstimate | None

    def correct_by_seed(self) -> dict[int | None, ItemScores]:
        """Return for each seed which test images its tower classified correctly (1.0, else 0.0)."""
        return {scored.seed: scored.correct_items for scored in self.seed_scores}


class FullLabelScores(tuple[TowerOrReferenceScore, ...]):  # noqa: SLOT001 - cached properties need a dictionary
    """The scores of all tasks, each fitted on all labels (`label_curves.py` has those with few labels).

    Experiments are in the comparison's order, the references after them.
    """

    @cached_property
    def tasks(self) -> list[str]:
        """The default tasks, those with the most headroom first, then others in the order of the records."""
        names = dict.fromkeys(scored.score.task for scored in self)
        return sorted(names, key=lambda name: index_or_end(DEFAULT_TASKS, name))

    @cached_property
    def budgets(self) -> list[EqualBudget]:
        """The budgets at which towers were scored: those of the most experiments first, of these the largest."""
        subjects = self._trained_experiments_by_budget

        def order(budget: EqualBudget) -> tuple[int, bool, int]:
            return -len(subjects[budget]), budget.images is None, -(budget.images or 0)

        return sorted(subjects, key=order)

    @cached_property
    def headline_budgets(self) -> list[EqualBudget]:
        """The first number of images, equal device seconds, and what the towers of other experiments have seen."""
        chosen: list[EqualBudget] = []
        shown = set[str]()
        for budget in self.budgets:
            subjects = self._trained_experiments_by_budget[budget]
            has_new = not subjects <= shown
            if budget.images is None or has_new:
                chosen.append(budget)
                shown |= subjects
        return chosen

    @cached_property
    def _trained_experiments_by_budget(self) -> dict[EqualBudget, set[str]]:
        """The trained experiments by the budget at which their towers were scored."""
        subjects: dict[EqualBudget, set[str]] = defaultdict(set)
        for scored in self:
            for budget in scored.budgets:
                subjects[budget].add(scored.subject)
        return subjects

    def protocols(self, task: str) -> list[str]:
        """Return the protocols of a task, the linear probe first."""
        protocols = [
            protocol for scored_task, protocol in self._accuracies_by_key if scored_task == task
        ]
        return sorted(protocols, key=lambda protocol: protocol != PROBE)

    def main_protocol(self, task: str) -> str:
        """Return the linear probe, or the first protocol of a task that no probe scores."""
        return self.protocols(task)[0]

    def accuracies(self, task: str, protocol: str) -> list[TowerOrReferenceAccuracy]:
        """Return the mean accuracy over seeds of each subject and number of images, on a task by a protocol."""
        return self._accuracies_by_key.get((task, protocol), [])

    def main_accuracies(self, task: str) -> list[TowerOrReferenceAccuracy]:
        """Return the accuracies on a task by its main protocol."""
        return self.accuracies(task, self.main_protocol(task))

    @cached_property
    def _accuracies_by_key(self) -> dict[tuple[str, str], list[TowerOrReferenceAccuracy]]:
        """The accuracies by task and protocol."""
        groups = group_by(self, lambda scored: (scored.score.task, scored.score.protocol))
        return {key: _average_accuracies_over_seeds(scores) for key, scores in groups.items()}


def collect_full_label_scores(comparison: ComparisonView) -> FullLabelScores:
    """Return the scores of all tasks, each fitted on all labels, from a comparison's records."""
    scores = collect_all_scores(comparison)
    return FullLabelScores(scored for scored in scores if not scored.is_of_label_curve)


def collect_all_scores(comparison: ComparisonView) -> list[TowerOrReferenceScore]:
    """Return all scores: experiments in the page's order, then the random-init baseline, then reference features."""
    scores = list[TowerOrReferenceScore]()
    for record, transfer in comparison.records_and_contents_of(TransferScores):
        subject = transfer.subject
        experiment = record.experiment
        is_reference = experiment is None or subject != experiment.name
        for score in transfer.scores:
            budgets = () if is_reference else _budgets_of(transfer)
            scored = TowerOrReferenceScore(
                subject, is_reference, experiment, transfer.images, budgets, score
            )
            scores.append(scored)
    order = [*comparison.experiments, RANDOM_INIT, *REFERENCES]

    def position(scored: TowerOrReferenceScore) -> tuple[int, str, int, int]:
        index = index_or_end(order, scored.subject)
        return index, scored.subject, scored.images_seen, scored.seed or 0

    return sorted(scores, key=position)


def select_towers_at_budget(
    points: Sequence[TowerOrReferenceAccuracy], budget: EqualBudget
) -> dict[str, TowerOrReferenceAccuracy]:
    """Return the trained towers at a budget, by subject."""
    towers = {}
    for point in points:
        if budget in point.budgets:
            towers[point.subject] = point
    return towers


def is_random_init_name(name: str) -> bool:
    """Return whether a name is of a random-init baseline, of the comparison or of one tower."""
    return name == RANDOM_INIT or name.startswith(f"{RANDOM_INIT} of ")


def index_or_end(order: Sequence[str], name: str) -> int:
    """Return the index of a name in an order; the length of the order for one that is not in it."""
    return order.index(name) if name in order else len(order)


def _budgets_of(transfer: TransferScores) -> tuple[EqualBudget, ...]:
    """Return the budgets of a trained tower: the images that it has really seen, or equal device seconds, or both."""
    budgets = []
    if transfer.budgets != (EQUAL_SECONDS,):
        budgets.append(EqualBudget(transfer.images))
    if EQUAL_SECONDS in transfer.budgets:
        budgets.append(EqualBudget(None))
    return tuple(budgets)


def _average_accuracies_over_seeds(
    scores: Sequence[TowerOrReferenceScore],
) -> list[TowerOrReferenceAccuracy]:
    """Return the accuracy of each subject and number of images over seeds, from scores on one task by one protocol."""

    def subject_key(scored: TowerOrReferenceScore) -> tuple[object, ...]:
        key = scored.random_init_key if scored.subject == RANDOM_INIT else None
        return scored.subject, scored.images_seen, key

    random_inits = [scored for scored in scores if is_random_init_name(scored.subject)]
    return [
        _average_accuracy_over_seeds(seed_scores, random_inits)
        for seed_scores in group_by(scores, subject_key).values()
    ]


def _average_accuracy_over_seeds(
    seed_scores: Sequence[TowerOrReferenceScore], random_inits: Sequence[TowerOrReferenceScore]
) -> TowerOrReferenceAccuracy:
    """Return the accuracy over one subject's scores of different seeds, and its gain over the random-init baseline."""
    first = seed_scores[0]
    budgets = dict[EqualBudget, None]()
    for scored in seed_scores:
        budgets |= dict.fromkeys(scored.budgets)
    gains = []
    if not is_random_init_name(first.subject):
        for scored in seed_scores:
            baselines = _select_random_init_baselines(scored, random_inits)
            gains += [scored.correct_items - baseline.correct_items for baseline in baselines]
    return TowerOrReferenceAccuracy(
        subject=first.subject,
        is_reference=first.is_reference,
        images_seen=first.images_seen,
        budgets=tuple(budgets),
        seed_scores=tuple(seed_scores),
        accuracy=estimate_mean(
            [scored.correct_items for scored in seed_scores], accuracy_with_wilson_interval
        ),
        gain=estimate_mean(gains, mean_with_interval) if gains else None,
    )


def estimate_mean(
    rows: Sequence[CorrectItems],
    interval_over_items: Callable[[Sequence[float]], ValueWithInterval],
) -> MeanEstimate:
    """Return the mean over seeds and test items, with an interval over seeds, or for one seed over test items."""
    if len(rows) > 1 or len(rows[0]) == 1:
        return estimate_mean_over_seeds(rows)
    items = rows[0]
    interval = interval_over_items(items.tolist())
    return MeanEstimate(interval.value, interval.low, interval.high, f"{len(items):,} test images")


def _select_random_init_baselines(
    scored: TowerOrReferenceScore, random_inits: Sequence[TowerOrReferenceScore]
) -> list[TowerOrReferenceScore]:
    """Return the scores of the random-init baseline of the same architecture, pooling and seed if there is one.

    Features without a training seed are compared with the baselines of all seeds.
    """
    name = f"{RANDOM_INIT} of {scored.subject}"
    candidates = [baseline for baseline in random_inits if baseline.subject == name]
    if not candidates:
        candidates = [baseline for baseline in random_inits if baseline.subject == RANDOM_INIT]
    key = scored.random_init_key
    if scored.is_reference or key is None:
        first_key = candidates[0].random_init_key if candidates else None
        return [baseline for baseline in candidates if baseline.random_init_key == first_key]

    def is_of_tower(baseline: TowerOrReferenceScore) -> bool:
        other = baseline.random_init_key
        return other is None or (other.tower, other.image_size) == (key.tower, key.image_size)

    def difference(baseline: TowerOrReferenceScore) -> tuple[bool, bool]:
        return baseline.random_init_key != key, baseline.seed != scored.seed

    return sorted(filter(is_of_tower, candidates), key=difference)[:1]
