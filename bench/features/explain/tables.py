"""The table and the sentences of a decomposition."""

from bench.experiment.settings import strip_settings
from bench.features.explain.decomposition import CauseRatio, Decomposition
from bench.statistics.verdicts import FLOPS_TOLERANCE
from bench.tables.formats import CONFIDENCE_TEXT, format_rate, format_ratio
from bench.tables.tables import Cell, Column, Table

NOTE = (
    "Ratios of images/s over rounds of fresh processes. forward + backward: of steps timed in phases, without data and "
    "optimizer. whole step: of the windows, with both. FLOP-predicted: from the products of forward and backward. "
    f"verdict: consistent if the interval of ln(measured / predicted) is within {FLOPS_TOLERANCE:.2f} of 0. "
    "saved: microseconds per image of the whole step."
)
NOT_MEASURED = "some of its runs are missing, or other work disturbed them"
MICROSECONDS = 1e6


def cause_table(result: Decomposition) -> Table:
    """Return the table of the causes and of the whole ratio."""
    columns = [
        *Column.texts("cause", "change"),
        Column("forward + backward", CONFIDENCE_TEXT),
        Column("FLOP-predicted"),
        Column.text("verdict"),
        Column("whole step", CONFIDENCE_TEXT),
        Column("saved, us/image"),
    ]
    rows = [_cause_cells(cause) for cause in [*result.causes, result.whole]]
    note = f"{NOTE}\nRounds: {result.num_rounds}. {result.waits}"
    if result.ladder.note:
        note += f"\n{result.ladder.note}"
    title = f"From {result.baseline} to {result.experiment}"
    return Table.of_rows(title, columns, rows, note)


def _cause_cells(cause: CauseRatio) -> list[Cell]:
    """Return the cells of a cause in the order of the columns of `cause_table`."""
    saved = None
    if cause.saved_seconds is not None:
        saved = MICROSECONDS * cause.saved_seconds
    return [
        Cell.of(cause.cause),
        Cell.of(cause.change),
        Cell.estimate_or_why(cause.forward_backward, format_ratio, NOT_MEASURED),
        Cell.applicable_or_why(cause.flop_ratio, format_ratio, NOT_MEASURED),
        Cell.applicable_or_why(cause.verdict, str, NOT_MEASURED),
        Cell.estimate_or_why(cause.step, format_ratio, NOT_MEASURED),
        Cell.applicable_or_why(saved, format_rate, NOT_MEASURED),
    ]


def names_of_ladder_ends(result: Decomposition) -> tuple[str, str]:
    """Return the names of a ladder's first and last experiment, without settings if they still differ."""
    start = strip_settings(result.baseline)
    end = strip_settings(result.experiment)
    if start == end:
        return result.baseline, result.experiment
    return start, end


def describe_decomposition(result: Decomposition) -> str:
    """Return sentences on how large the ratio is and what it is made of."""
    total = result.whole
    causes = []
    for cause in result.causes:
        if cause.forward_backward is not None:
            ratio = format_ratio(cause.forward_backward.value)
            causes.append(f"{ratio}x for {cause.cause}")
    if total.forward_backward is None or len(causes) < len(result.causes):
        return "Some experiments of the ladder were not measured or were disturbed, so the ratio cannot be decomposed."
    start, end = names_of_ladder_ends(result)
    ratio = format_ratio(total.forward_backward.value)
    sentences = [
        f"Forward and backward are {ratio}x as fast at the ladder's end ({end}) as at its start ({start}).",
        f"The causes, in this order, are {', '.join(causes)}.",
    ]
    if total.flop_ratio is not None:
        sentences.append(f"FLOPs predict {format_ratio(total.flop_ratio)}x.")
    if total.step is not None:
        step_ratio = format_ratio(total.step.value)
        sentences.append(f"With data and optimizer a step is {step_ratio}x as fast.")
    sentences.append(f"Captions: {result.captions}.")
    return " ".join(sentences)
