"""The table and the sentences of a decomposition."""

from dataclasses import replace

from bench.experiment.settings import strip_settings
from bench.features.explain.decomposition import CauseRatio, Decomposition, LogRatio
from bench.features.explain.ladder import ExpectedRatio
from bench.statistics.accuracies import Estimate
from bench.statistics.verdicts import FLOPS_TOLERANCE
from bench.tables.formats import INTERVAL, format_rate, format_ratio
from bench.tables.tables import Cell, Column, Table

NOTE = (
    "Ratios of images/s over rounds of fresh processes. forward + backward: of steps timed in phases, without data and "
    "optimizer. whole step: of the windows, with both. FLOP-predicted: from the products of forward and backward. "
    f"deviation from FLOPs: ln(measured / predicted), consistent if its interval is within {FLOPS_TOLERANCE:.2f} of 0. "
    "saved: microseconds per image of the whole step."
)
NOT_MEASURED = "some of its runs are missing, or other work disturbed them"


def cause_table(result: Decomposition) -> Table:
    """List the causes, the objective and the whole ratio, then counted and published ratios."""
    columns = [
        *Column.texts("cause", "change"),
        Column("forward + backward", INTERVAL),
        Column("FLOP-predicted"),
        Column("deviation from FLOPs", "ln(measured / predicted)"),
        Column.text("verdict"),
        Column("whole step", INTERVAL),
        Column("saved, us/image"),
    ]
    shown = [*result.causes, *([result.objective] if result.objective else []), result.whole]
    rows = [_row(cause) for cause in shown]
    for reference in result.ladder.references:
        blank = [Cell.not_applicable("counted or published, not measured")] * (len(columns) - 3)
        rows.append(
            [
                Cell.of(reference.what),
                Cell.of(reference.source),
                Cell.of(reference.ratio, format_ratio),
                *blank,
            ]
        )
    notes = [NOTE, f"Rounds: {result.num_rounds}. {result.waits}"]
    notes += [f"Left out, {name}: {reason}." for name, reason in result.ladder.left_out.items()]
    return Table.of_rows(
        f"From {result.baseline} to {result.experiment}", columns, rows, "\n".join(notes)
    )


def _row(cause: CauseRatio) -> list[Cell]:
    saved = None if cause.saved_seconds is None else 1e6 * cause.saved_seconds
    return [
        Cell.of(cause.cause),
        Cell.of(cause.change),
        Cell.estimate(_ratio(cause.forward_backward), format_ratio, NOT_MEASURED),
        Cell.applicable(cause.flop_ratio, format_ratio, NOT_MEASURED),
        _deviation_cell(cause.deviation),
        Cell.applicable(cause.verdict, str, NOT_MEASURED),
        Cell.estimate(_ratio(cause.step), format_ratio, NOT_MEASURED),
        Cell.applicable(saved, format_rate, NOT_MEASURED),
    ]


def _ratio(log_ratio: LogRatio | None) -> Estimate | None:
    return None if log_ratio is None else log_ratio.ratio


def _deviation_cell(deviation: LogRatio | None) -> Cell:
    if deviation is None:
        return Cell.not_applicable(NOT_MEASURED)
    if deviation.margin is None:
        return Cell(f"{deviation.value:+.2f}", value=deviation.value)
    interval = (deviation.interval.low, deviation.interval.high)
    return Cell(
        f"{deviation.value:+.2f} ± {deviation.margin:.2f}", value=deviation.value, interval=interval
    )


def summarize(result: Decomposition) -> str:
    """Say in a few sentences how large the ratio is and what it is made of."""
    whole = result.whole.forward_backward
    if whole is None or any(cause.forward_backward is None for cause in result.causes):
        return "Some experiments of the ladder were not measured or were disturbed, so the ratio cannot be decomposed."
    end = strip_settings(result.experiment)
    start = strip_settings(result.baseline)
    if end == start:
        end = result.experiment
        start = result.baseline
    causes = ", ".join(
        f"{_format(cause.forward_backward)} for {cause.cause}" for cause in result.causes
    )
    sentences = [
        f"Forward and backward are {_format(whole)} as fast at the ladder's end ({end}) as at its start ({start}).",
        f"The causes, in this order, are {causes}.",
    ]
    if result.objective is not None and result.objective.forward_backward is not None:
        sentences.append(f"The objective alone is {_format(result.objective.forward_backward)}.")
    if result.whole.flop_ratio is not None:
        sentences.append(f"FLOPs predict {format_ratio(result.whole.flop_ratio)}x.")
    if result.whole.step is not None:
        sentences.append(f"With data and optimizer a step is {_format(result.whole.step)} as fast.")
    sentences += [_describe_reference(line) for line in result.ladder.references]
    sentences.append(f"Captions: {result.captions}.")
    return " ".join(sentences)


def _describe_reference(line: ExpectedRatio) -> str:
    return f"{line.what[:1].upper()}{line.what[1:]}: {format_ratio(line.ratio)}x."


def _format(log_ratio: LogRatio | None) -> str:
    return "?" if log_ratio is None else f"{format_ratio(log_ratio.ratio.value)}x"


def explained_table(result: Decomposition) -> Table:
    """List the causes, with a summary beneath."""
    table = cause_table(result)
    return replace(table, note=f"{table.note}\n\n{summarize(result)}")
