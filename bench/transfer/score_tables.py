"""What towers know about the tasks, as tables: a figure with its interval is (value, low, high)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from bench.console.tables import Table
from bench.measure.throughput import rates_of
from bench.record import Metric, Record, Score, Speed, Transfer
from bench.statistics import Estimate, Interval, accuracy_interval, over_draws, over_seeds
from bench.transfer.classification.shares import left_out, too_few

PROBE = "linear probe"
POWERS = ("power W, by the energy counter", "power W")  # the better first
WHOLE_READER = "GPU"  # what a record says is missing where the device could not be opened
Cell = tuple[float, float | None, float | None]
SAME_STEPS = (
    "Equal steps are equal images here, for all batches have the same size, so they are no budget of their own."
)
SEED_UNIT = "The unit of a claim about a method is the training seed; one tower ranks nothing."


@dataclass(frozen=True, slots=True)
class Row:
    """What one record says of one subject."""

    record: Record
    transfer: Transfer

    @property
    def key(self) -> tuple[int, str, int]:
        """Return what rows are ordered and joined by: images seen, subject, seed."""
        experiment = self.record.experiment
        return self.transfer.images, self.transfer.subject, experiment.seed if experiment else -1

    @property
    def words(self) -> dict[str, Any]:
        """Return the first cells of its line in a table."""
        images, subject, seed = self.key
        return {"features": subject, "images": images, "seed": None if seed < 0 else seed}


def accuracy_tables(records: Sequence[Record]) -> list[Table]:
    """Show all that is known of accuracy."""
    curves, metrics = curve_tables(records), metric_tables(records)
    return [*score_tables(records), *curves, *metrics, budget_table(records)]


def score_tables(records: Sequence[Record]) -> list[Table]:
    """List accuracies on whole tasks, one table a protocol, each with its interval over test images."""
    scores = [score for row in _rows(records) for score in row.transfer.scores]
    protocols = dict.fromkeys(score.protocol for score in scores if not _is_point(score))
    return [_scores(records, protocol) for protocol in sorted(protocols, key=lambda name: (name != PROBE, name))]


def _scores(records: Sequence[Record], protocol: str) -> Table:
    lines: dict[tuple[int, str, int], dict[str, Any]] = {}
    for row in sorted(_rows(records), key=lambda row: row.key):
        for score in row.transfer.scores:
            if score.protocol == protocol and not _is_point(score):
                lines.setdefault(row.key, row.words)[score.task] = _cell(accuracy_interval(_correct(score)))
    return Table(
        f"Transfer: {protocol}",
        list(lines.values()),
        f"Share of the test images told right, with 95 % over these images for this one tower. {SEED_UNIT}",
    )


def curve_tables(records: Sequence[Record]) -> list[Table]:
    """Show few-shot and label-fraction curves, one table a task."""
    points = [(row, score) for row in _rows(records) for score in row.transfer.scores if _is_point(score)]
    curves = dict.fromkeys((score.protocol, score.task) for _, score in points)
    return [_curve(points, protocol, task) for protocol, task in curves]


def metric_tables(records: Sequence[Record]) -> list[Table]:
    """Show figures that are no share of right answers, one table a task and protocol, trivial baselines last."""
    found = [(row, metric) for row in _rows(records) for metric in row.transfer.metrics]
    return [
        _metrics([(row, one) for row, one in found if (one.task, one.protocol) == (task, protocol)], task, protocol)
        for task, protocol in dict.fromkeys((one.task, one.protocol) for _, one in found)
    ]


def budget_table(records: Sequence[Record]) -> Table:
    """Show accuracy against images seen, device seconds and energy, for every budget, references beneath."""
    groups: dict[tuple[str, str, int], list[Row]] = {}
    for row in sorted(_rows(records), key=lambda row: row.key):
        for budget in row.transfer.budgets or ("reference",):
            groups.setdefault((budget, row.transfer.subject, row.transfer.images), []).append(row)
    costs, lines = costs_of(records), list[dict[str, Any]]()
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
        if accuracies := _over_seeds(rows):
            lines.append(line | accuracies)
    reasons = dict.fromkeys(cost.why_no_joules for cost in costs.values() if cost.joules is None)
    energy = f"\nEnergy was not measured: {'; '.join(reasons)}." if reasons else ""
    timed = "" if costs else "\nDevice seconds and energy need speed records, and this comparison has none."
    batches = {row.record.experiment.batch_size for row in _rows(records) if row.record.experiment}
    return Table(
        "Accuracy against images seen, device seconds and energy, linear probe",
        lines,
        "device s: images over the median images/s of the speed records; energy: at their mean power, of all devices."
        f"{timed}{energy}\n{SAME_STEPS if len(batches) == 1 else ''} Several seeds: mean and 95 % over them from three "
        f"on. {SEED_UNIT}",
    )


@dataclass(frozen=True, slots=True)
class Cost:
    """What an image costs in training."""

    rate: float  # images a second
    joules: float | None  # an image
    why_no_joules: str


def costs_of(records: Iterable[Record]) -> dict[str, Cost]:
    """Return what an image costs in training each experiment, by its speed records."""
    rows, rates = list(records), rates_of(records)
    return {name: _cost(median(of.values()), _runs(rows, name)) for name, of in rates.items()}


def _runs(records: Iterable[Record], name: str) -> list[Speed]:
    return [r.measured for r in records if isinstance(r.measured, Speed) and r.experiment and r.experiment.name == name]


def _cost(rate: float, runs: Sequence[Speed]) -> Cost:
    for power in POWERS:
        if all(power in run.utilisation for run in runs):
            return Cost(rate, fmean(run.utilisation[power] * run.processes for run in runs) / rate, "")
    names = (*POWERS, WHOLE_READER)
    reasons = dict.fromkeys(run.not_measured[name] for run in runs for name in names if name in run.not_measured)
    return Cost(rate, None, "; ".join(reasons) or "this device has no counter of power or energy")


def _over_seeds(rows: Sequence[Row]) -> dict[str, Cell]:
    found: dict[str, list[Score]] = {}
    for row in rows:
        for score in row.transfer.scores:
            if score.protocol == PROBE and not _is_point(score):
                found.setdefault(score.task, []).append(score)
    return {task: _estimate(over_seeds([_accuracy(score) for score in scores])) for task, scores in found.items()}


def _curve(points: Sequence[tuple[Row, Score]], protocol: str, task: str) -> Table:
    here = [(row, score) for row, score in points if (score.protocol, score.task) == (protocol, task)]
    lines: dict[tuple[int, str, int], dict[str, Any]] = {}
    for row, _ in sorted(here, key=lambda found: found[0].key):
        if row.key not in lines:
            own = [score for other, score in here if other.key == row.key]
            lines[row.key] = row.words | {
                place: _over_draws([_accuracy(score) for score in own if _place(score) == place])
                for place in dict.fromkeys(map(_place, own))
            }
    draws = 1 + max(score.draw for _, score in here)
    return Table(
        f"{protocol} on {task}",
        list(lines.values()),
        f"Mean of {draws} draws of the labelled images, the same for every row, with 95 % over these draws alone, "
        f"which says nothing of other trainings. {SEED_UNIT}{left_out(score for _, score in here)}"
        f"{too_few(score for _, score in here)}",
    )


def _metrics(found: Sequence[tuple[Row, Metric]], task: str, protocol: str) -> Table:
    lines: dict[tuple[int, str, int, int | None], dict[str, Any]] = {}
    for row, one in sorted(found, key=lambda pair: pair[0].key):
        line = lines.setdefault((*row.key, one.per_class), row.words | _shots(one))
        values = [m.value for r, m in found if (*r.key, m.per_class, m.name) == (*row.key, one.per_class, one.name)]
        line[one.name] = _over_draws(values)
    baselines = {one.name: one.baseline for _, one in found if one.baseline is not None}
    last = [{"features": "trivial baseline"} | baselines] if baselines else []
    return Table(
        f"{protocol} on {task}", [*lines.values(), *last], f"Several draws: mean and 95 % over them. {SEED_UNIT}"
    )


def _shots(metric: Metric) -> dict[str, int]:
    return {} if metric.per_class is None else {"per class": metric.per_class}


def _place(score: Score) -> str:
    """Name a point of a curve."""
    if score.per_class is not None:
        return f"{score.per_class} a class"
    return f"{score.label_share:.0%}, {score.num_train:,} images"


def _is_point(score: Score) -> bool:
    return score.per_class is not None or score.label_share is not None


def _rows(records: Iterable[Record]) -> list[Row]:
    return [Row(record, record.measured) for record in records if isinstance(record.measured, Transfer)]


def _correct(score: Score) -> list[bool]:
    return [answer == "1" for answer in score.correct]


def _accuracy(score: Score) -> float:
    return score.correct.count("1") / len(score.correct)


def _over_draws(values: Sequence[float]) -> Cell:
    return _estimate(over_draws({"": dict(enumerate(values))}))


def _estimate(found: Estimate) -> Cell:
    return found.value, found.low, found.high


def _cell(interval: Interval) -> Cell:
    return interval.value, interval.low, interval.high
