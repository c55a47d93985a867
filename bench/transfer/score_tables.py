"""Tables of transfer accuracy, and of heads that are initialised from pre-training. No torch here.

A figure with its interval is (value, low, high).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import numpy.typing as npt

from bench.catalog import describe_concept_overlap, describe_out_of_domain_scoring
from bench.formats import format_ratio
from bench.measure.throughput import throughputs_by_round
from bench.record import Record, Speed, Transfer
from bench.scores import Score, describe_task_trainings
from bench.statistics import Answers, Estimate, Interval, accuracy_interval, estimate_over_draws, estimate_over_seeds
from bench.tables import Cell, Column, Table
from bench.transfer.classification.label_subsets import describe_omitted_shares, describe_small_classes

PROBE, RETRIEVAL = "linear probe", "retrieval"
POWERS = ("power W, by the energy counter", "power W")  # the more accurate first
WHOLE_READER = "GPU"  # key of the reason where the device could not be opened
ValueAndEnds = tuple[float, float | None, float | None]
SAME_STEPS = "All batches have the same size, so that equal steps are equal images and no budget of their own. "
SEED_UNIT = "A claim about a method needs several training seeds; one tower does not rank methods."
INIT_PROTOCOL = "transfer-init"
RANDOM_HEAD, COPIED_ROWS = "random head", "copied rows"  # heads
CLASS_NAMES, PROMPTS = "class names", "prompt templates"  # heads of a text tower
INIT_NOTE = (
    "Accuracy on the test images of a head on the frozen tower: the mean over draws of labelled images, the same for "
    "every head, with a 95 % interval over these draws and the test images. A row with a plus: the difference from the "
    "random head on the same draw.\nNo labels: the initial head. A draw's rate is chosen on validation images of its "
    "own, no more than are fitted; all labels are one draw. One training of the tower is no evidence on other "
    "trainings."
)


@dataclass(frozen=True, slots=True)
class ScoredRecord:
    """The scores of one feature extractor in one record."""

    record: Record
    transfer: Transfer

    @property
    def key(self) -> tuple[int, str, int]:
        """The sort key of rows: images seen, feature extractor, seed."""
        experiment = self.record.experiment
        return self.transfer.images, self.transfer.subject, experiment.seed if experiment else -1

    @property
    def first_cells(self) -> dict[str, Any]:
        """The first cells of the row in a table."""
        images, subject, seed = self.key
        return {"features": subject, "images": images, "seed": None if seed < 0 else seed}


def all_transfer_tables(records: Sequence[Record]) -> list[Table]:
    """Return all tables of accuracy."""
    return [*whole_task_tables(records), *curve_tables(records), *metric_tables(records), budget_table(records)]


def whole_task_tables(records: Sequence[Record]) -> list[Table]:
    """Return accuracies on whole tasks, one table per protocol, each with its interval over test images."""
    scores = [(row, score) for row in _scored_records(records) for score in row.transfer.scores if not _is_point(score)]
    data = dict.fromkeys(row.record.experiment.input.data for row, _ in scores if row.record.experiment is not None)
    drawings = describe_out_of_domain_scoring((score.task for _, score in scores), data)
    tables = list[Table]()
    for protocol in sorted({score.protocol for _, score in scores}, key=lambda name: (name != PROBE, name)):
        lines: dict[tuple[int, str, int], dict[str, Any]] = {}
        for row, score in scores:
            if score.protocol == protocol:
                interval = accuracy_interval(correct_per_item(score).tolist())
                lines.setdefault(row.key, row.first_cells)[score.task] = _interval_cell(interval)
        of_protocol = [score for _, score in scores if score.protocol == protocol]
        note = f"Accuracy on the test images, with a 95 % interval over these images for this one tower. {SEED_UNIT}"
        note += describe_task_trainings(of_protocol)
        if known := describe_concept_overlap((score.task for score in of_protocol), data):
            note += f"\n{known}"
        if drawings and not tables:
            note += f"\n{drawings}: --root FOLDER scores them on classes of your own, with a folder of images for each."
        tables.append(Table.of_figures(f"Transfer: {protocol}", [*lines.values()], note))
    return tables


def curve_tables(records: Sequence[Record]) -> list[Table]:
    """Return few-shot and label-fraction curves, one table per protocol and task."""
    points = [(row, score) for row in _scored_records(records) for score in row.transfer.scores if _is_point(score)]
    tables = []
    for protocol, task in dict.fromkeys((score.protocol, score.task) for _, score in points):
        here = [(row, score) for row, score in points if (score.protocol, score.task) == (protocol, task)]
        lines = _average_by_first_cells(
            (row.first_cells, point_name(score), correct_per_item(score)) for row, score in here
        )
        scores = [score for _, score in here]
        note = (
            f"Mean of {1 + max(score.draw for score in scores)} draws of the labelled images, the same for every row, "
            "with a 95 % interval over these draws and the test images, which is no evidence on other trainings. "
            f"{SEED_UNIT}{describe_omitted_shares(scores)}{describe_small_classes(scores)}"
        )
        tables.append(Table.of_figures(f"{protocol} on {task}", lines, note))
    return tables


def metric_tables(records: Sequence[Record]) -> list[Table]:
    """Return the other metrics, one table per task and protocol, trivial baselines last."""
    metrics = [(row, metric) for row in _scored_records(records) for metric in row.transfer.metrics]
    tables = []
    for task, protocol in dict.fromkeys((one.task, one.protocol) for _, one in metrics):
        here = [(row, one) for row, one in metrics if (one.task, one.protocol) == (task, protocol)]
        lines = _average_by_first_cells(
            (row.first_cells | ({} if one.per_class is None else {"per class": one.per_class}), one.name, one.value)
            for row, one in here
        )
        if baselines := {one.name: one.baseline for _, one in here if one.baseline is not None}:
            lines.append({"features": "trivial baseline"} | baselines)
        note = f"Several draws: mean and 95 % interval. {SEED_UNIT}{describe_task_trainings(one for _, one in here)}"
        tables.append(Table.of_figures(f"{protocol} on {task}", lines, note))
    return tables


def _average_by_first_cells(values: Iterable[tuple[dict[str, Any], str, Answers]]) -> list[dict[str, Any]]:
    """Return a line for all values with the same first cells, with the mean of each column."""
    grouped: dict[tuple[Any, ...], dict[str, list[Answers]]] = defaultdict(lambda: defaultdict(list))
    for first_cells, column, value in values:
        grouped[(*first_cells.items(),)][column].append(value)
    return [
        dict(first) | {name: mean_over_draws(of) for name, of in columns.items()} for first, columns in grouped.items()
    ]


def budget_table(records: Sequence[Record]) -> Table:
    """Return accuracy against images seen, device seconds and energy, for every budget; references last."""
    groups: dict[tuple[str, str, int], list[ScoredRecord]] = {}
    for row in _scored_records(records):
        for budget in row.transfer.budgets or ("reference",):
            groups.setdefault((budget, row.transfer.subject, row.transfer.images), []).append(row)
    costs, lines = image_costs(records), list[dict[str, Any]]()
    for (budget, subject, images), rows in sorted(groups.items(), key=lambda group: group[0][0] == "reference"):
        cost = costs.get(subject)
        line = {
            "budget": budget,
            "features": subject,
            "images": images,
            "device s": images / cost.rate if cost and images else None,
            "energy kJ": images * cost.joules / 1000 if cost and cost.joules and images else None,
            "seeds": len({row.key for row in rows}),
        }
        if accuracies := _probe_accuracies(rows):
            lines.append(line | accuracies)
    reasons = dict.fromkeys(cost.why_no_joules for cost in costs.values() if cost.joules is None)
    energy = f"\nEnergy was not measured: {'; '.join(reasons)}." if reasons else ""
    timed = "" if costs else "\nDevice seconds and energy need speed records, and this comparison has none."
    batches = {row.record.experiment.training.batch_size for row in _scored_records(records) if row.record.experiment}
    return Table.of_figures(
        "Accuracy against images seen, device seconds and energy, linear probe",
        lines,
        "device s: images over the median images/s of the speed records; energy: at their mean power, of all devices."
        f"{timed}{energy}\n{SAME_STEPS if len(batches) == 1 else ''}95 % intervals: of one seed over the test "
        f"images alone, from three seeds on over them and the test images; two seeds have none. {SEED_UNIT}",
    )


@dataclass(frozen=True, slots=True)
class ImageCost:
    """The cost of a training image."""

    rate: float  # images/s
    joules: float | None  # per image
    why_no_joules: str


def image_costs(records: Iterable[Record]) -> dict[str, ImageCost]:
    """Return the cost of a training image for each experiment, from its speed records."""
    rows = list(records)
    speeds = [(row.experiment.name, row.measured) for row in rows if isinstance(row.measured, Speed) and row.experiment]
    return {
        name: _cost_per_image(median(rates.values()), [speed for of, speed in speeds if of == name])
        for name, rates in throughputs_by_round(rows).items()
    }


def point_name(score: Score) -> str:
    """Return the column of a point of a curve."""
    if score.per_class is None:
        return f"{score.label_share:.0%}, {score.num_train:,} images"
    return f"{score.per_class} per class" if score.per_class else "no labels"


def correct_per_item(score: Score) -> npt.NDArray[np.float64]:
    """Return 1.0 for each test item that was answered right, else 0.0; shape (items,)."""
    return np.frombuffer(score.correct.encode(), np.uint8).astype(np.float64) - ord("0")


def mean_over_draws(values: Sequence[Answers]) -> ValueAndEnds:
    """Return the mean over draws of the labelled images, with its interval over draws and test items."""
    return _interval_cell(estimate_over_draws({"": dict(enumerate(values))}))


def _cost_per_image(rate: float, runs: Sequence[Speed]) -> ImageCost:
    for power in POWERS:
        if all(power in run.utilisation for run in runs):
            return ImageCost(rate, fmean(run.utilisation[power] * run.processes for run in runs) / rate, "")
    names = (*POWERS, WHOLE_READER)
    reasons = dict.fromkeys(run.not_measured[name] for run in runs for name in names if name in run.not_measured)
    return ImageCost(rate, None, "; ".join(reasons) or "this device has no counter of power or energy")


def _probe_accuracies(rows: Sequence[ScoredRecord]) -> dict[str, ValueAndEnds]:
    found: dict[str, list[npt.NDArray[np.float64]]] = {}
    for row in rows:
        for score in row.transfer.scores:
            if score.protocol == PROBE and not _is_point(score):
                found.setdefault(score.task, []).append(correct_per_item(score))
    return {task: _interval_cell(estimate_mean(answers, accuracy_interval)) for task, answers in found.items()}


def estimate_mean(
    rows: Sequence[npt.NDArray[np.float64]], interval_over_items: Callable[[Sequence[float]], Interval]
) -> Estimate:
    """Estimate a mean over seeds and test items; for one seed over the test items."""
    if len(rows) > 1 or len(rows[0]) == 1:
        return estimate_over_seeds(rows)
    found = interval_over_items(rows[0].tolist())
    return Estimate(found.value, found.low, found.high, f"{len(rows[0]):,} test images")


def _is_point(score: Score) -> bool:
    return score.per_class is not None or score.label_share is not None


def _scored_records(records: Iterable[Record]) -> list[ScoredRecord]:
    rows = [ScoredRecord(record, record.measured) for record in records if isinstance(record.measured, Transfer)]
    return sorted(rows, key=lambda row: row.key)


def _interval_cell(interval: Interval | Estimate) -> ValueAndEnds:
    return interval.value, interval.low, interval.high


class NearestLabel(NamedTuple):
    """The label nearest in WordNet to a synset of a task's class."""

    task: str
    class_name: str
    path: tuple[str, ...]  # from the class's synset over the common ancestor to the label
    similarity: float


def drop_init_records(records: Iterable[Record]) -> list[Record]:
    """Return the records of other protocols."""
    return [record for record in records if not _is_init(record.measured)]


def _is_init(measured: object) -> TypeGuard[Transfer]:
    return isinstance(measured, Transfer) and any(score.protocol.startswith(INIT_PROTOCOL) for score in measured.scores)


def init_tables(records: Iterable[Record]) -> list[Table]:
    """Show the label that each class took, and every head's accuracy against the number of labels."""
    transfers = [record.measured for record in records if _is_init(record.measured)]
    tasks = dict.fromkeys(score.task for transfer in transfers for score in transfer.scores)
    return [nearest_label_table(transfers), *(_heads_table(task, transfers) for task in tasks)]


def nearest_label_table(transfers: Iterable[Transfer]) -> Table:
    """Show the nearest label of each class with the path to it, by task."""
    columns = [*Column.texts("class", "nearest label"), Column("similarity"), Column("steps")]
    groups: dict[str, list[list[Cell]]] = {}
    for one in nearest_labels(transfers):
        figures = [Cell.of(one.similarity, format_ratio), Cell.of(len(one.path) - 1)]
        names = [Cell.of(one.class_name), Cell.of(one.path[-1])]
        groups.setdefault(one.task, []).append([*names, *figures, Cell(" → ".join(one.path))])
    note = (
        "Similarity is 1 / (1 + steps) along the path. A class of several synsets is initialised with the mean of "
        "their rows. A tower without a classifier has no rows to copy."
    )
    title, columns = "The nearest label of each class", [*columns, Column.text("path in WordNet")]
    return Table.of_groups(title, columns, groups, note)


def nearest_labels(transfers: Iterable[Transfer]) -> list[NearestLabel]:
    """Return the recorded nearest labels of each class, one per synset; none for a class without a synset."""
    found = dict.fromkeys(
        (metric.task, metric.name, metric.value)
        for transfer in transfers
        for metric in transfer.metrics
        if metric.protocol == INIT_PROTOCOL
    )
    parts = ((task, name.rpartition(": "), similarity) for task, name, similarity in found)
    return [NearestLabel(task, of, tuple(way.split(" > ")), similarity) for task, (of, _, way), similarity in parts]


def _heads_table(task: str, transfers: Sequence[Transfer]) -> Table:
    rows = []
    for transfer in transfers:
        heads: dict[str, dict[str, dict[int, npt.NDArray[np.float64]]]] = defaultdict(lambda: defaultdict(dict))
        for score in transfer.scores:
            if score.task == task:
                heads[score.protocol.removeprefix(f"{INIT_PROTOCOL}, ")][point_name(score)][score.draw] = (
                    correct_per_item(score)
                )
        first = {"features": transfer.subject, "images": transfer.images}
        for head, points in heads.items():
            rows.append(
                first | {"head": head} | {point: mean_over_draws([*draws.values()]) for point, draws in points.items()}
            )
            if head != RANDOM_HEAD:
                random = heads[RANDOM_HEAD]
                gains = {
                    point: mean_over_draws([answers - random[point][draw] for draw, answers in draws.items()])
                    for point, draws in points.items()
                }
                rows.append(first | {"head": f"+ {head}"} | gains)
    scores = [score for transfer in transfers for score in transfer.scores if score.task == task]
    return Table.of_figures(f"{INIT_PROTOCOL} on {task}", rows, f"{INIT_NOTE}{describe_omitted_shares(scores)}")
