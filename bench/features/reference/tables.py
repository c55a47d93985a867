"""Tables of comparisons with other people's training code. No torch here."""

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from bench.features.reference import OPEN_CLIP_BUCKETED, OURS, WARMUP_STEPS
from bench.features.reference.records import ReferenceRun, ReleasedRun
from bench.measure.tables import ratio_columns
from bench.records.record import Record
from bench.statistics.ratios import log_std, ratios_of
from bench.tables.tables import Table

# Relative difference of losses over the first steps, by precision: rounding grows with training.
EQUAL_LOSSES = {"fp32": 1e-4, "bf16": 1e-2, "fp16": 1e-2}
STEPS_COMPARED = 20
LOSSES_NOTE = (
    "steps: first ones with equal batches, whose losses are compared. mean: of a step with each batch, all over the\n"
    "same images; not comparable where a side makes other batches, because a contrastive loss depends on the batch."
)


def reference_speed_table(records: Sequence[Record], sides: Sequence[str]) -> Table:
    """List each side's images per second, and its ratio to the first side's."""
    rates: dict[str, dict[int, float]] = {}
    tokens = {}
    for record in records:
        run = record.measured
        if isinstance(run, ReferenceRun) and record.experiment is not None:
            # Windows may differ in work.
            rate = record.experiment.images_per_window / fmean(run.window_seconds)
            rates.setdefault(run.side, {})[run.round] = rate
            tokens[run.side] = run.tokens_per_caption
    others = {side: rates[side] for side in sides[1:] if side in rates}
    ratios = ratios_of(rates[sides[0]], others) if sides[0] in rates else {}
    rows = []
    for side in sides:
        if side in rates:
            row = {"side": side} | _rate_columns(rates[side]) | ratio_columns(ratios.get(side))
            rows.append(row | {"tokens": tokens[side]})
    note = (
        f"ratio: images/s over those of {sides[0]}, with its 95 % interval over runs (fresh processes, interleaved).\n"
        "tokens: computed per caption."
    )
    return Table.of_figures(f"Compared with {sides[0]}", rows, note)


def _rate_columns(rates: Mapping[int, float]) -> dict[str, Any]:
    return {"runs": len(rates), "images/s": median(rates.values()), "spread": log_std(rates)}


def compare_early_losses(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Compare each side's losses with ours over the first steps of the first round whose batches are equal.

    The mean losses are of a step with each batch: of the same images, but in other batches where a side buckets them.
    """
    losses = {}
    bound = 0.0
    for record in records:
        if isinstance(record.measured, ReferenceRun) and record.measured.round == 0:
            losses[record.measured.side] = record.measured.losses
            bound = EQUAL_LOSSES[record.circumstances.precision]
    ours = losses.pop(OURS, ())
    rows = []
    for side, theirs in losses.items():
        steps = WARMUP_STEPS if side == OPEN_CLIP_BUCKETED else STEPS_COMPARED
        difference = float("inf")
        if ours and len(ours[:steps]) == len(theirs[:steps]):
            pairs = zip(theirs[:steps], ours[:steps], strict=True)
            difference = max(abs(their - our) / abs(their) for their, our in pairs)
        row = {
            "reference": side,
            "steps": len(theirs[:steps]),
            "largest difference, relative": difference,
            "equal": "yes" if difference <= bound else "no",
            "mean": fmean(theirs),
            "mean of ours": fmean(ours) if ours else "",
        }
        rows.append(row)
    return rows


def released_tables(records: Sequence[Record]) -> list[Table]:
    """Return the table of each file's images per second with the ratio of CatLIP's to CLIP's, and of changed keys."""
    runs: dict[str, list[ReleasedRun]] = {"clip": [], "catlip": []}
    for record in records:
        if isinstance(record.measured, ReleasedRun) and record.experiment is not None:
            runs[record.experiment.method].append(record.measured)
    rates = {
        method: {run.round: run.images_per_second for run in rounds}
        for method, rounds in runs.items()
        if rounds
    }
    ratios = ratios_of(rates["clip"], {"catlip": rates["catlip"]}) if len(rates) > 1 else {}
    rows = []
    changes = []
    for method, rounds in runs.items():
        if not rounds:
            continue
        first = rounds[0]
        waits = [run.data_wait_share for run in rounds if run.data_wait_share is not None]
        row: dict[str, Any] = {"file": first.file, "commit": first.commit}
        row |= _rate_columns(rates[method])
        row |= ratio_columns(ratios.get(method))
        row["waited"] = median(waits) if waits else None
        rows.append(row | {"first loss": first.losses[0], "last loss": first.losses[-1]})
        for key, change in first.changed.items():
            changes.append({"file": first.file, "changed key": key, "change": change})
    note = (
        "ratio: images/s over those of CLIP's file, with its 95 % interval over runs (fresh processes, interleaved).\n"
        "waited: share of the windows' time in which the loop waited for its batch."
    )
    speeds = Table.of_figures("The authors' files as released, in one process", rows, note)
    return [speeds, Table.of_figures("Changed keys", changes)]
