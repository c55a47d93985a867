"""The table of a decomposition."""

from bench.features.explain.decomposition import CauseRatio, RatioDecomposition
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


def cause_table(result: RatioDecomposition) -> Table:
    """Return the table of the causes and of the whole ratio."""
    columns = [
        *Column.all_left_aligned("cause", "change"),
        Column("forward + backward", CONFIDENCE_TEXT),
        Column("FLOP-predicted"),
        Column.left_aligned("verdict"),
        Column("whole step", CONFIDENCE_TEXT),
        Column("saved, us/image"),
    ]
    rows = [_cause_cells(cause) for cause in [*result.causes, result.total]]
    note = f"{NOTE}\nRounds: {result.num_rounds}. Captions: {result.captions_note}. {result.waits_note}"
    if result.ladder.note:
        note += f"\n{result.ladder.note}"
    title = f"From {result.baseline} to {result.experiment}"
    return Table.of_rows(title, columns, rows, note)


def _cause_cells(cause: CauseRatio) -> list[Cell]:
    """Return the cells of a cause in the order of the columns of `cause_table`."""
    saved = None
    if cause.saved_seconds_per_image is not None:
        saved = MICROSECONDS * cause.saved_seconds_per_image
    return [
        Cell.of(cause.cause),
        Cell.of(cause.change),
        Cell.estimate_or_why(cause.forward_backward, format_ratio, NOT_MEASURED),
        Cell.applicable_or_why(cause.flop_ratio, format_ratio, NOT_MEASURED),
        Cell.applicable_or_why(cause.flops_verdict, str, NOT_MEASURED),
        Cell.estimate_or_why(cause.whole_step, format_ratio, NOT_MEASURED),
        Cell.applicable_or_why(saved, format_rate, NOT_MEASURED),
    ]
