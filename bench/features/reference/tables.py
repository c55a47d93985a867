"""Tables of comparisons with other people's training code. No torch here."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

import numpy as np

from bench.features.reference import OPEN_CLIP_BUCKETED, OURS, WARMUP_STEPS
from bench.features.reference.records import ReferenceRun
from bench.measure.tables import ratio_cells
from bench.records.record import Record, ReleasedRun
from bench.statistics.ratios import RateByRound, compare_rate_pairs
from bench.tables.tables import Table

# Relative difference of losses over the first steps, by precision: rounding grows with training.
EQUAL_LOSSES = {"fp32": 1e-4, "bf16": 1e-2, "fp16": 1e-2}
STEPS_COMPARED = 20
LOSSES_NOTE = (
    "steps: first ones with equal batches, whose losses are compared. mean: of a step with each batch, all over the\n"
    "same images; not comparable where a side makes other batches, because a contrastive loss depends on the batch."
)


def reference_speed_table(records: Sequence[Record], sides: Sequence[str]) -> Table:
    """Return the table of each side's images per second, with its ratio to the first side."""
    rates = defaultdict[str, dict[int, float]](dict)
    tokens = {}
    for record in records:
        run = record.measured
        if isinstance(run, ReferenceRun) and record.experiment is not None:
            # The mean, because windows may differ in work.
            seconds = fmean(run.window_seconds)
            rates[run.side][run.round] = record.experiment.images_per_device_in_window / seconds
            tokens[run.side] = run.tokens_per_caption
    columns = _speed_columns(rates, sides[0])
    rows = [
        {"side": side, **columns[side], "tokens": tokens[side]} for side in sides if side in rates
    ]
    note = (
        f"ratio: images/s over those of {sides[0]}, with its 95 % interval over runs (fresh processes, interleaved).\n"
        "tokens: computed per caption."
    )
    return Table.from_dicts(f"Compared with {sides[0]}", rows, note)


def _speed_columns(rates: Mapping[str, RateByRound], base: str) -> dict[str, dict[str, Any]]:
    """Return each name's cells on images/s by column; the cells of ratios are empty where `base` has no runs."""
    ratios = {}
    if base in rates:
        pairs = {name: (rates[base], runs) for name, runs in rates.items() if name != base}
        ratios = compare_rate_pairs(pairs)
    columns = {}
    for name, runs in rates.items():
        columns[name] = {
            "runs": len(runs),
            "images/s": median(runs.values()),
            **ratio_cells(ratios.get(name)),
        }
    return columns


def loss_comparison_table(records: Sequence[Record]) -> Table:
    """Return the table that says whether the losses of each other side equal ours, in the first round.

    It says nothing where our first round failed.
    """
    losses = {}
    bound = 0.0
    for record in records:
        run = record.measured
        if isinstance(run, ReferenceRun) and run.round == 0:
            losses[run.side] = run.losses
            bound = EQUAL_LOSSES[record.circumstances.precision]
    our_losses = losses.pop(OURS, ())
    rows = []
    for side, their_losses in losses.items():
        steps = WARMUP_STEPS if side == OPEN_CLIP_BUCKETED else STEPS_COMPARED
        theirs = their_losses[:steps]
        difference = None
        equal = None
        if our_losses:
            differences = np.subtract(theirs, our_losses[:steps]) / theirs
            difference = float(np.abs(differences).max())
            equal = "yes" if difference <= bound else "no"
        row = {
            "reference": side,
            "steps": len(theirs),
            "largest difference, relative": difference,
            "equal": equal,
            "mean": fmean(their_losses),
            "mean of ours": fmean(our_losses) if our_losses else None,
        }
        rows.append(row)
    return Table.from_dicts("Losses of the first round", rows, LOSSES_NOTE)


def released_run_tables(records: Sequence[Record]) -> list[Table]:
    """Return tables on CoreNet's runs: images per second of each file with the ratio to CLIP's, and changed keys."""
    runs_by_method = defaultdict[str, list[ReleasedRun]](list)
    for record in records:
        if isinstance(record.measured, ReleasedRun) and record.experiment is not None:
            runs_by_method[record.experiment.method].append(record.measured)
    rates = {
        method: {run.round: run.images_per_second for run in runs}
        for method, runs in runs_by_method.items()
    }
    columns = _speed_columns(rates, "clip")
    rows = []
    changes = []
    for method in sorted(runs_by_method, reverse=True):  # CLIP is first
        runs = runs_by_method[method]
        first = runs[0]
        waits = [run.data_wait_share for run in runs if run.data_wait_share is not None]
        row = {
            "file": first.file,
            "commit": first.commit,
            **columns[method],
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
