"""Tables of comparisons with other people's training code. No torch here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from bench.features.reference import OPEN_CLIP_BUCKETED, OURS, WARMUP_STEPS
from bench.features.reference.records import ReferenceRun
from bench.measure.tables import ratio_columns
from bench.records.record import Record, ReleasedRun
from bench.statistics.ratios import Ratio, compare_rates_to_base, log_standard_deviation
from bench.tables.tables import Table

# Relative difference of losses over the first steps, by precision: rounding grows with training.
EQUAL_LOSSES = {"fp32": 1e-4, "bf16": 1e-2, "fp16": 1e-2}
STEPS_COMPARED = 20
LOSSES_NOTE = (
    "steps: first ones with equal batches, whose losses are compared. mean: of a step with each batch, all over the\n"
    "same images; not comparable where a side makes other batches, because a contrastive loss depends on the batch."
)


@dataclass(frozen=True, slots=True)
class LossComparison:
    """The losses of a reference beside ours, from the first round."""

    side: str  # name of the reference
    num_steps: int  # first ones, whose batches are equal
    difference: float  # the largest of these steps, relative to the reference's loss; infinity: not comparable
    is_equal: bool  # to within rounding, see `EQUAL_LOSSES`
    mean: float  # over the first step with each batch: the same images as ours, but in other batches if bucketed
    our_mean: float | None  # None: ours did not run


def reference_speed_table(records: Sequence[Record], sides: Sequence[str]) -> Table:
    """Return the table of each side's images per second, with its ratio to the first side's."""
    rates: dict[str, dict[int, float]] = {}
    tokens = {}
    for record in records:
        run = record.measured
        experiment = record.experiment
        if isinstance(run, ReferenceRun) and experiment is not None:
            # The mean, because windows may differ in work.
            seconds = fmean(run.window_seconds)
            rates_by_round = rates.setdefault(run.side, {})
            rates_by_round[run.round] = experiment.images_per_window / seconds
            tokens[run.side] = run.tokens_per_caption
    sides_with_runs = [side for side in sides if side in rates]
    base = sides[0]
    ratios = {}
    if base in rates:
        others = {side: rates[side] for side in sides_with_runs if side != base}
        ratios = compare_rates_to_base(rates[base], others)
    rows = []
    for side in sides_with_runs:
        columns = _speed_columns(rates[side], ratios.get(side))
        rows.append({"side": side, **columns, "tokens": tokens[side]})
    note = (
        f"ratio: images/s over those of {base}, with its 95 % interval over runs (fresh processes, interleaved).\n"
        "tokens: computed per caption."
    )
    return Table.from_dicts(f"Compared with {base}", rows, note)


def _speed_columns(rates: Mapping[int, float], ratio: Ratio | None) -> dict[str, Any]:
    """Return the columns of the images/s of runs, by round, and of the ratio to the base."""
    speeds = {"runs": len(rates), "images/s": median(rates.values())}
    return speeds | {"spread": log_standard_deviation(rates)} | ratio_columns(ratio)


def compare_early_losses(records: Sequence[Record]) -> list[LossComparison]:
    """Compare the losses of each reference with ours, over the first steps of the first round."""
    losses = {}
    bound = 0.0
    for record in records:
        run = record.measured
        if isinstance(run, ReferenceRun) and run.round == 0:
            losses[run.side] = run.losses
            bound = EQUAL_LOSSES[record.circumstances.precision]
    our_losses = losses.pop(OURS, ())
    comparisons = []
    for side, their_losses in losses.items():
        steps = WARMUP_STEPS if side == OPEN_CLIP_BUCKETED else STEPS_COMPARED
        theirs = their_losses[:steps]
        difference = _largest_difference(theirs, our_losses[:steps])
        our_mean = fmean(our_losses) if our_losses else None
        comparison = LossComparison(
            side, len(theirs), difference, difference <= bound, fmean(their_losses), our_mean
        )
        comparisons.append(comparison)
    return comparisons


def loss_table(comparisons: Sequence[LossComparison]) -> Table:
    """Return the table of the losses of each reference beside ours."""
    rows = []
    for comparison in comparisons:
        row = {
            "reference": comparison.side,
            "steps": comparison.num_steps,
            "largest difference, relative": comparison.difference,
            "equal": "yes" if comparison.is_equal else "no",
            "mean": comparison.mean,
            "mean of ours": comparison.our_mean,
        }
        rows.append(row)
    return Table.from_dicts("Losses of the first round", rows, LOSSES_NOTE)


def _largest_difference(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """Return the largest difference of two lists of losses, relative to theirs; infinity if they cannot be compared."""
    if not ours or len(ours) != len(theirs):
        return float("inf")
    differences = []
    for their_loss, our_loss in zip(theirs, ours, strict=True):
        differences.append(abs(their_loss - our_loss) / abs(their_loss))
    return max(differences)


def released_tables(records: Sequence[Record]) -> list[Table]:
    """Return the table of each file's images per second with the ratio of CatLIP's to CLIP's, and of changed keys."""
    runs_by_method: dict[str, list[ReleasedRun]] = {"clip": [], "catlip": []}
    rates: dict[str, dict[int, float]] = {}
    for record in records:
        run = record.measured
        if isinstance(run, ReleasedRun) and record.experiment is not None:
            method = record.experiment.method
            runs_by_method[method].append(run)
            rates_by_round = rates.setdefault(method, {})
            rates_by_round[run.round] = run.images_per_second
    ratios = {}
    if len(rates) > 1:
        ratios = compare_rates_to_base(rates["clip"], {"catlip": rates["catlip"]})
    rows = []
    changes = []
    for method, runs in runs_by_method.items():
        if not runs:
            continue
        first = runs[0]
        waits = [run.data_wait_share for run in runs if run.data_wait_share is not None]
        row = {
            "file": first.file,
            "commit": first.commit,
            **_speed_columns(rates[method], ratios.get(method)),
            "waited": median(waits) if waits else None,
            "first loss": first.losses[0],
            "last loss": first.losses[-1],
        }
        rows.append(row)
        for key, change in first.changed.items():
            changes.append({"file": first.file, "changed key": key, "change": change})
    note = (
        "ratio: images/s over those of CLIP's file, with its 95 % interval over runs (fresh processes, interleaved).\n"
        "waited: share of the windows' time in which the loop waited for its batch."
    )
    speeds = Table.from_dicts("The authors' files as released, in one process", rows, note)
    return [speeds, Table.from_dicts("Changed keys", changes)]
