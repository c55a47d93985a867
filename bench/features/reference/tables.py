"""Tables of comparisons with other people's training code. No torch here."""

from collections import Counter
from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

from bench.features.reference import OPEN_CLIP_BUCKETED, OURS, WARMUP_STEPS
from bench.features.reference.records import (
    ReferenceRun,
    ReleasedRun,
    describe_clip_costs,
    rates_by_experiment,
)
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
STATES = ("unclassified", "changed", "not used", "used")  # of keys, in the order of a table


def reference_speed_table(records: Sequence[Record], sides: Sequence[str]) -> Table:
    """List each side's images per second, and its ratio to the first side's, for each experiment."""
    tokens = {}
    for record in records:
        if isinstance(record.measured, ReferenceRun):
            tokens[record.experiment_name, record.measured.side] = (
                record.measured.tokens_per_caption
            )
    rows = []
    for name, rates in rates_by_experiment(records).items():
        base = rates.get(sides[0])
        others = {side: rates[side] for side in sides[1:] if side in rates}
        ratios = ratios_of(base, others) if base else {}
        for side in sides:
            if side not in rates:
                continue
            row = {
                "experiment": name,
                "side": side,
                "runs": len(rates[side]),
                "images/s": median(rates[side].values()),
            }
            row |= {"spread": log_std(rates[side])} | ratio_columns(ratios.get(side))
            rows.append(row | {"tokens": tokens[name, side]})
    notes = [
        f"ratio: images/s over those of {sides[0]}, with its 95 % interval over runs (fresh processes, interleaved).",
        "tokens: computed per caption.",
        *describe_clip_costs(records),
    ]
    return Table.of_figures(f"Compared with {sides[0]}", rows, "\n".join(notes))


def compare_early_losses(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Compare each side's losses with ours over the first steps of the first round whose batches are equal.

    The mean losses are of a step with each batch: of the same images, but in other batches where a side buckets them.
    """
    losses: dict[str, dict[str, tuple[float, ...]]] = {}
    bounds = {}
    for record in records:
        if isinstance(record.measured, ReferenceRun) and record.measured.round == 0:
            losses.setdefault(record.experiment_name, {})[record.measured.side] = (
                record.measured.losses
            )
            bounds[record.experiment_name] = EQUAL_LOSSES[record.circumstances.precision]
    rows = []
    for name, losses_by_side in losses.items():
        ours = losses_by_side.pop(OURS, ())
        for side, theirs in losses_by_side.items():
            steps = WARMUP_STEPS if side == OPEN_CLIP_BUCKETED else STEPS_COMPARED
            pairs = list(zip(theirs[:steps], ours[:steps], strict=False))
            difference = max(
                (abs(their - our) / abs(their) for their, our in pairs), default=float("inf")
            )
            is_equal = difference <= bounds[name] and len(ours[:steps]) == len(theirs[:steps])
            rows.append(
                {
                    "experiment": name,
                    "reference": side,
                    "steps": len(theirs[:steps]),
                    "first": theirs[0],
                    "last": theirs[:steps][-1],
                    "largest difference, relative": difference,
                    "equal": "yes" if is_equal else "no",
                    "mean": fmean(theirs),
                    "mean of ours": fmean(ours) if ours else "",
                }
            )
    return rows


def runs_by_method(records: Sequence[Record]) -> dict[str, list[ReleasedRun]]:
    """Return the runs of the authors' code by method, CLIP first, and by round."""
    runs: dict[str, list[ReleasedRun]] = {"clip": [], "catlip": []}
    for record in records:
        if isinstance(record.measured, ReleasedRun) and record.experiment is not None:
            runs[record.experiment.method].append(record.measured)
    return {
        method: sorted(rounds, key=lambda run: run.round)
        for method, rounds in runs.items()
        if rounds
    }


def released_tables(records: Sequence[Record]) -> list[Table]:
    """Return the tables of speeds, of changed keys, and of every key of each file."""
    runs = runs_by_method(records)
    return [
        released_speed_table(runs),
        changes_table(runs),
        *(keys_table(rounds[0]) for rounds in runs.values()),
    ]


def released_speed_table(runs: dict[str, list[ReleasedRun]]) -> Table:
    """List each file's images per second, and the ratio of CatLIP's to CLIP's."""
    rates = {
        method: {run.round: run.images_per_second for run in rounds}
        for method, rounds in runs.items()
    }
    ratios = ratios_of(rates["clip"], {"catlip": rates["catlip"]}) if len(rates) > 1 else {}
    rows = []
    for method, rounds in runs.items():
        first = rounds[0]
        heights = [height for run in rounds for height, _, _ in run.image_sizes]
        images = [images for run in rounds for _, _, images in run.image_sizes]
        waits = [run.data_wait_share for run in rounds if run.data_wait_share is not None]
        row = {"file": first.file, "runs": len(rounds), "images/s": median(rates[method].values())}
        row |= {"spread": log_std(rates[method])} | ratio_columns(ratios.get(method))
        row |= {
            "waited": median(waits) if waits else None,
            "px": _range(heights),
            "images a step": _range(images),
        }
        rows.append(row | {"first loss": first.losses[0], "last loss": first.losses[-1]})
    sources = {f"{run.repository} at {run.commit}" for rounds in runs.values() for run in rounds}
    note = (
        "ratio: images/s over those of CLIP's file, with its 95 % interval over runs (fresh processes, interleaved).\n"
        "waited: share of the windows' time in which the loop waited for its batch."
    )
    return Table.of_figures(f"As released: {', '.join(sorted(sources))}, one process", rows, note)


def changes_table(runs: dict[str, list[ReleasedRun]]) -> Table:
    """List the keys whose values are not those of the files."""
    rows = []
    for rounds in runs.values():
        for key, change in rounds[0].changed.items():
            rows.append({"file": rounds[0].file, "changed key": key, "change": change})
    return Table.of_figures("Changed keys", rows)


def keys_table(run: ReleasedRun) -> Table:
    """List every key of a file, with what became of it."""
    rows = []
    for name, key in sorted(run.keys.items(), key=lambda item: STATES.index(item[1].state)):
        rows.append(
            {"key": name, "released": key.released, "state": key.state, "reason": key.reason}
        )
    counts = Counter[str](key.state for key in run.keys.values())
    note = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    return Table.of_figures(f"Keys of {run.file}", rows, note)


def _range(values: Sequence[int]) -> str:
    bounds = dict.fromkeys((min(values), max(values)))
    return "-".join(map(str, bounds))
