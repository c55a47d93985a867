"""The figures of measurements over runs, with their ratios to the baseline. No torch here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.measure.tables import ratio_columns
from bench.records.record import Figure, Figures, Record
from bench.statistics.ratios import Ratio, ratios_of_pairs
from bench.tables.tables import Table

# Verdicts on a ratio where larger values are better, smaller ones, or neither; other verdicts stay as they are.
WORDS = {
    "higher": {"faster": "better", "slower": "worse"},
    "lower": {"faster": "worse", "slower": "better"},
    None: {"faster": "higher", "slower": "lower"},
}
RunsByRound = dict[int, Figures]


@dataclass(frozen=True, slots=True)
class FigureSummary:
    """A figure of a measurement, of one experiment over its runs."""

    measurement: str  # its name
    title: str
    figure: Figure
    experiment: str
    rounds: dict[int, float]  # by round: the median of the values of its run
    value: float  # the median over the rounds
    # To the baseline; None for the baseline itself, and where a value is not above 0.
    ratio: Ratio | None
    verdict: str  # "better", "worse", "higher", "lower", or the ratio's own; empty without a ratio


def summarize_figures(records: Sequence[Record], names: Sequence[str]) -> list[FigureSummary]:
    """Summarise all measurements of the named experiments, the first of which with a record is the baseline.

    p and verdict are adjusted for the number of ratios of a measurement. The records alone are read: the extension that
    added a measurement need not be here. Raises ValueError if two records of a measurement declare other figures.
    """
    measurements: dict[str, dict[str, RunsByRound]] = {}
    for record in records:
        figures = record.measured
        if isinstance(figures, Figures) and record.experiment_name in names:
            experiments = measurements.setdefault(figures.measurement, {})
            experiments.setdefault(record.experiment_name, {})[figures.round] = figures
    summaries = []
    for experiments in measurements.values():
        in_order = {name: experiments[name] for name in names if name in experiments}
        summaries += _summarize_measurement(in_order)
    return summaries


def _summarize_measurement(experiments: Mapping[str, RunsByRound]) -> list[FigureSummary]:
    """Summarise the runs of one measurement, by experiment and round."""
    runs = [run for rounds in experiments.values() for run in rounds.values()]
    first = runs[0]
    if any(run.figures != first.figures for run in runs):
        raise ValueError(
            f"records of the measurement {first.measurement} have other figures: measure all again"
        )
    values: dict[tuple[str, str], dict[int, float]] = {}
    for figure in first.figures:
        for name, by_round in experiments.items():
            values[figure.name, name] = {
                number: median(run.values[figure.name]) for number, run in by_round.items()
            }
    ratios = _ratios_to_first(values, list(experiments))
    summaries = []
    for figure in first.figures:
        for name in experiments:
            rounds = values[figure.name, name]
            ratio = ratios.get(_pair_key(figure.name, name))
            verdict = (
                "" if ratio is None else WORDS[figure.better].get(ratio.verdict, ratio.verdict)
            )
            value = median(rounds.values())
            summary = FigureSummary(
                first.measurement, first.title, figure, name, rounds, value, ratio, verdict
            )
            summaries.append(summary)
    return summaries


def _ratios_to_first(
    values: Mapping[tuple[str, str], dict[int, float]], names: Sequence[str]
) -> dict[str, Ratio]:
    """Return the ratio of each figure of each experiment to the first experiment's, where all values are above 0."""
    pairs = {}
    for (figure, name), rounds in values.items():
        base = values[figure, names[0]]
        if name != names[0] and min(*base.values(), *rounds.values()) > 0:
            pairs[_pair_key(figure, name)] = (base, rounds)
    return ratios_of_pairs(pairs)


def _pair_key(figure: str, experiment: str) -> str:
    return f"{figure}\n{experiment}"


def figure_tables(records: Sequence[Record], names: Sequence[str]) -> list[Table]:
    """List the figures of each measurement, with their ratios to the baseline."""
    summaries = summarize_figures(records, names)
    tables = []
    for measurement in dict.fromkeys(summary.measurement for summary in summaries):
        group = [summary for summary in summaries if summary.measurement == measurement]
        note = (
            f"value: median over runs (fresh processes). ratio: over that of {group[0].experiment}, with its 95 % "
            "interval. p: Student's t on the differences of rounds, adjusted by Holm for the ratios of this table."
        )
        rows = [_table_row(summary) for summary in group]
        tables.append(Table.of_figures(group[0].title, rows, note))
    return tables


def _table_row(summary: FigureSummary) -> dict[str, object]:
    figure = summary.figure
    row: dict[str, object] = {
        "figure": f"{figure.name}, {figure.unit}" if figure.unit else figure.name,
        "experiment": summary.experiment,
        "runs": len(summary.rounds),
        "value": summary.value,
    }
    return row | ratio_columns(summary.ratio) | {"verdict": summary.verdict or None}
