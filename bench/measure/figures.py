"""The figures of measurements over runs, with their ratios to the baseline. No torch here."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench.interfaces.measurement import Figure
from bench.measure.tables import ratio_columns
from bench.records.record import Figures, Record
from bench.statistics.ratios import Ratio, ratios_of_pairs
from bench.tables.tables import Table

# Verdicts on a ratio where larger values are better, smaller ones, or neither; other verdicts stay as they are.
WORDS = {
    "higher": {"faster": "better", "slower": "worse"},
    "lower": {"faster": "worse", "slower": "better"},
    None: {"faster": "higher", "slower": "lower"},
}


@dataclass(frozen=True, slots=True)
class FigureSummary:
    """A figure of a measurement, of one experiment over its runs."""

    measurement: str  # its name
    title: str
    figure: Figure
    experiment: str
    rounds: dict[int, float]  # by round: the median of the values of its run
    value: float  # the median over the rounds
    ratio: Ratio | None  # to the baseline; None: of the baseline itself, or of figures that are not all above 0
    verdict: str  # "better", "worse", "higher", "lower", or as that of the ratio; empty without one


def summarize_figures(records: Sequence[Record], names: Sequence[str]) -> list[FigureSummary]:
    """Summarise all measurements of the named experiments, the first of which with a record is the baseline.

    p and verdict are adjusted for the number of ratios of a measurement. The records alone are read: the extension that
    added a measurement need not be here. Raises ValueError if two records of a measurement declare other figures.
    """
    runs = dict[str, dict[str, dict[int, Figures]]]()
    for record in records:
        one, found = record.experiment, record.measured
        if isinstance(found, Figures) and one is not None and one.name in names:
            runs.setdefault(found.measurement, {}).setdefault(one.name, {})[found.round] = found
    return [row for of in runs.values() for row in _summarize({name: of[name] for name in names if name in of})]


def _summarize(runs: dict[str, dict[int, Figures]]) -> list[FigureSummary]:
    """Summarise the runs of one measurement, by experiment and round."""
    every = [run for rounds in runs.values() for run in rounds.values()]
    first, base = every[0], next(iter(runs))
    if any(run.figures != first.figures for run in every):
        raise ValueError(f"records of the measurement {first.measurement} have other figures: measure all again")
    values = {
        (figure.name, name): {round_: median(run.values[figure.name]) for round_, run in rounds.items()}
        for figure in first.figures
        for name, rounds in runs.items()
    }
    pairs = {
        "\n".join(key): (values[key[0], base], of)
        for key, of in values.items()
        if key[1] != base and min(*values[key[0], base].values(), *of.values()) > 0
    }
    ratios = ratios_of_pairs(pairs)
    rows = []
    for figure in first.figures:
        for name in runs:
            rounds, ratio = values[figure.name, name], ratios.get(f"{figure.name}\n{name}")
            verdict = WORDS[figure.better].get(ratio.verdict, ratio.verdict) if ratio else ""
            of = (first.measurement, first.title, figure, name, rounds, median(rounds.values()))
            rows.append(FigureSummary(*of, ratio, verdict))
    return rows


def figure_tables(records: Sequence[Record], names: Sequence[str]) -> list[Table]:
    """List the figures of each measurement, with their ratios to the baseline."""
    found, tables = summarize_figures(records, names), []
    for measurement in dict.fromkeys(row.measurement for row in found):
        of = [row for row in found if row.measurement == measurement]
        rows = [
            {
                "figure": f"{row.figure.name}, {row.figure.unit}" if row.figure.unit else row.figure.name,
                "experiment": row.experiment,
                "runs": len(row.rounds),
                "value": row.value,
            }
            | ratio_columns(row.ratio)
            | {"verdict": row.verdict or None}
            for row in of
        ]
        note = (
            f"value: median over runs (fresh processes). ratio: over that of {of[0].experiment}, with its 95 % "
            "interval. p: Student's t on the differences of rounds, adjusted by Holm for the ratios of this table."
        )
        tables.append(Table.of_figures(of[0].title, rows, note))
    return tables
