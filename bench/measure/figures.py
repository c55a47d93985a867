"""The figures of measurements over runs, with their ratios to the baseline. No torch here."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from statistics import median

from bench.measure.tables import ratio_cells
from bench.records.record import FigureSpec, MeasuredFigures, Record
from bench.statistics.ratios import RateRatio, compare_rate_pairs
from bench.tables.groups import group_by
from bench.tables.tables import Table

# Verdicts on a figure in place of those on a rate, by `FigureSpec.better`; other verdicts stay as they are.
VERDICTS_BY_DIRECTION = {
    "higher": {"faster": "better", "slower": "worse"},
    "lower": {"faster": "worse", "slower": "better"},
    None: {"faster": "higher", "slower": "lower"},
}


@dataclass(frozen=True, slots=True)
class MeasuredValueSummary:
    """A figure of a measurement: of one experiment, over its runs."""

    measurement: str  # its name
    title: str
    figure: FigureSpec
    experiment: str
    rounds: dict[int, float]  # by round: the median of the values of its run
    # To the baseline; None for the baseline itself, and where a value is not above 0.
    ratio: RateRatio | None = None

    @property
    def value(self) -> float:
        """The median over the rounds."""
        return median(self.rounds.values())

    @property
    def verdict(self) -> str:
        """Return "better", "worse", "higher", "lower", or the ratio's own verdict; empty without a ratio."""
        if self.ratio is None:
            return ""
        return VERDICTS_BY_DIRECTION[self.figure.better].get(self.ratio.verdict, self.ratio.verdict)


def summarize_extension_measurements(
    records: Sequence[Record], experiment_names: Sequence[str]
) -> list[MeasuredValueSummary]:
    """Summarise all measurements of the named experiments, the first of which with a record is the baseline.

    p and verdict are adjusted for the number of ratios of a measurement. The records alone are read: the extension that
    added a measurement need not be here. Raises ValueError if two records of a measurement declare other figures.
    """
    runs = []
    for name in experiment_names:
        for record in records:
            figures = record.measured
            if isinstance(figures, MeasuredFigures) and record.experiment_name == name:
                runs.append((name, figures))
    summaries = []
    for runs_of_measurement in group_by(runs, lambda run: run[1].measurement).values():
        summaries += _summarize_measurement(runs_of_measurement)
    return summaries


def _summarize_measurement(
    named_runs: Sequence[tuple[str, MeasuredFigures]],
) -> list[MeasuredValueSummary]:
    """Summarise the runs of one measurement, each with its experiment's name; the first one is the baseline."""
    base, first = named_runs[0]
    if any(run.figures != first.figures for _, run in named_runs):
        raise ValueError(
            f"records of the measurement {first.measurement} have other figures: measure all again"
        )
    runs_by_experiment: dict[str, list[MeasuredFigures]] = {}
    for name, run in named_runs:
        runs_by_experiment.setdefault(name, []).append(run)
    summaries = {}
    pairs = {}
    for figure in first.figures:
        base_rounds = _median_by_round(runs_by_experiment[base], figure.name)
        for name, runs in runs_by_experiment.items():
            rounds = _median_by_round(runs, figure.name)
            summary = MeasuredValueSummary(first.measurement, first.title, figure, name, rounds)
            key = (figure.name, name)
            summaries[key] = summary
            is_positive = min(*base_rounds.values(), *rounds.values()) > 0
            if name != base and is_positive:
                pairs[key] = (base_rounds, rounds)
    ratios = compare_rate_pairs(pairs)
    return [replace(summary, ratio=ratios.get(key)) for key, summary in summaries.items()]


def _median_by_round(runs: Sequence[MeasuredFigures], figure_name: str) -> dict[int, float]:
    """Return the median of the values of each run's figure, by the run's round."""
    return {run.round: median(run.values[figure_name]) for run in runs}


def extension_measurement_tables(
    records: Sequence[Record], experiment_names: Sequence[str]
) -> list[Table]:
    """Return a table for each measurement: its figures by experiment, with their ratios to the baseline."""
    summaries = summarize_extension_measurements(records, experiment_names)
    tables = []
    for group in group_by(summaries, attrgetter("measurement")).values():
        note = (
            f"value: median over runs (fresh processes). ratio: over that of {group[0].experiment}, with its 95 % "
            "interval. p: Student's t on the differences of rounds, adjusted by Holm for the ratios of this table."
        )
        rows = [_summary_row(summary) for summary in group]
        tables.append(Table.from_dicts(group[0].title, rows, note))
    return tables


def _summary_row(summary: MeasuredValueSummary) -> dict[str, object]:
    """Return the cells of a figure by their columns."""
    figure = summary.figure
    row: dict[str, object] = {
        "figure": f"{figure.name}, {figure.unit}" if figure.unit else figure.name,
        "experiment": summary.experiment,
        "runs": len(summary.rounds),
        "value": summary.value,
    }
    row.update(ratio_cells(summary.ratio))
    row["verdict"] = summary.verdict or None
    return row
