"""Tables of experiments and of what was measured of them: speed, costs, memory, failures. No torch here."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.config import FIELDS, MAY_DIFFER, Experiment, differing_fields, format_differences, unexpected_differences
from bench.data.caption_lengths import describe_captions
from bench.experiments import TUNED_FIELDS, tuning_of
from bench.formats import GIB, MIB, format_count
from bench.measure.summary import PHASE, UTILISATION, Throughput, throughputs_of
from bench.measure.throughput import require_comparable, timed_runs
from bench.record import PHASES, BatchTrial, Failure, Memory, Record, RunOnSamples, Speed
from bench.settings import strip_settings
from bench.statistics import Ratio, bound_by, log_std
from bench.tables import Cell, Column, Table

if TYPE_CHECKING:
    from bench.measure.costs import Costs

EMPTY_CAPTION = "empty caption (used)"
CONFOUNDED_NOTE = "The ratio is not the method's alone, for the experiments also differ in"


def experiment_table(experiments: Mapping[str, Experiment], costs: Mapping[str, "Costs"]) -> Table:
    """List experiments with what they cost by count."""
    rows = [
        {
            "experiment": name,
            "method": experiment.method,
            "tower": experiment.image.tower,
            "px": "-".join(
                dict.fromkeys(map(str, (min(experiment.image.all_image_sizes), max(experiment.image.all_image_sizes))))
            ),
            "batch": experiment.training.batch_size,
            "trained, M": costs[name].parameters / 1e6,
            "tower, M": costs[name].tower_parameters / 1e6,
            "image GFLOP": costs[name].image_flops / 1e9,
            "text GFLOP": costs[name].text_flops / 1e9 or None,
            "text share": costs[name].text_share or None,
            "teacher GFLOP": costs[name].teacher_flops / 1e9 or None,
            "tuning": tuning_of(experiment).state,
        }
        for name, experiment in experiments.items()
    ]
    note = (
        "trained, tower: parameters in millions, of all that is trained and of the image tower that is kept.\n"
        "GFLOP: one forward of an image, and of a caption at its full context; a step costs three, of a teacher one.\n"
        "Recipes that draw image sizes: px is the range, batch that of 224 px, image GFLOP the mean over the sizes.\n"
        "Measurements print the tokens that are computed per caption. The last block computes only the tokens that\n"
        "are read: if that is one, ViT-B-16 and its text tower take 7 % fewer FLOPs than open_clip publishes.\n"
        "tuning: of rate, crops, flips and initial head: released by the method's authors,\n"
        "default of open_clip's training program for all ViTs, searched here, or untuned."
    )
    return Table.of_figures("Experiments", rows, note)


def speed_table(
    title: str,
    records: Sequence[Record],
    names: Sequence[str],
    may_differ: Iterable[str] = MAY_DIFFER,
    *,
    allow_differences: bool = False,
) -> Table:
    """Compare the throughput of experiments to that of the first name that was timed.

    Those that are `allow_differences` as they are may differ in all fields, and the note tells which.
    """
    kept = [r for r in records if isinstance(r.measured, Speed) and r.experiment and r.experiment.name in names]
    require_comparable(kept, may_differ=FIELDS if allow_differences else may_differ)
    timed = timed_runs(records, names)
    if not timed:
        return Table.of_figures(title, [])
    base = next(iter(timed))
    found = throughputs_of(records, names, base)
    rows = [
        {
            "experiment": one.experiment,
            "batch": timed[one.experiment][0][0].training.batch_size,
            "runs": len(one.rounds),
            "tokens": one.figures["tokens_per_caption"],
            "images/s": round(one.images_per_second, 1),
            "spread": log_std(one.rounds),
            "ratio": one.ratio and one.ratio.value,
            "low": one.ratio and one.ratio.low,
            "high": one.ratio and one.ratio.high,
            "all windows": one.unweighted_ratio and one.unweighted_ratio.value,
            "p": one.ratio and one.ratio.p,
            "verdict": one.ratio and one.ratio.verdict,
            "FLOP-predicted": one.flop_ratio,
            "MFU": one.mfu,
        }
        for one in found
    ]
    processes = timed[base][0][1].processes
    joint = f"\nimages/s: of {processes} processes together; batch: images a step of each." if processes > 1 else ""
    ratios = [one.ratio for one in found if one.ratio]
    tested = "signs of rounds flipped" if any(one.is_paired for one in ratios) else "runs permuted"
    if any(one.log_slowdown for one in ratios):
        tested += ", Student's of a difference beyond what other work may add"
    captions = describe_captions(runs[0][0] for runs in timed.values())
    shown = [runs[0][0] for runs in timed.values()]
    beyond = unexpected_differences(shown, may_differ)
    also = [format_differences({field: values}) for field, values in beyond.items()]
    own = format_differences(
        {
            field: values
            for field, values in differing_fields(shown).items()
            if field not in beyond and (field in TUNED_FIELDS or field not in FIELDS)
        }
    )
    return Table.of_figures(
        title,
        rows,
        f"ratio: images/s over those of {base}, with its 95 % interval over runs (fresh processes, this machine, this "
        f"hour). all windows: the ratio with windows that other work slowed. p: {tested}, adjusted by Holm. "
        "spread: standard deviation over runs, relative.\nFLOP-predicted: from the matrix products. MFU: 3 x forward "
        f"FLOPs, over the device's peak: {found[0].peak_source}.{joint}\ntokens: per caption, with padding. "
        f"captions: {captions}."
        + (f"\nThe methods' own settings: {own}." if own else "")
        + ("\n  ".join([f"\n{CONFOUNDED_NOTE}", *also]) if also else ""),
    )


def ratio_columns(ratio: Ratio | None) -> dict[str, Any]:
    """Return the cells of a table that show a ratio, its 95 % interval, p and verdict."""
    names = {"ratio": "value", "low": "low", "high": "high", "p": "p", "verdict": "verdict"}
    return {column: ratio and getattr(ratio, name) for column, name in names.items()}


def time_and_memory_table(records: Sequence[Record], names: Sequence[str]) -> Table:
    """Say where a step's time goes, what disturbed it, what its targets cost and how much memory it takes."""
    timed = {row.experiment: row for row in throughputs_of(records, names, None)}
    memories = {r.experiment.name: r.measured for r in records if isinstance(r.measured, Memory) and r.experiment}
    rows = [
        {"experiment": name}
        | (_time_costs(timed[name]) if name in timed else {})
        | (_memory_costs(memories[name]) if name in memories else {})
        for name in names
        if name in timed or name in memories
    ]
    return Table.of_figures(
        "Where the time and the memory go",
        rows,
        "Phases come from a pass of their own that waits for the device between them; their sum over the unsplit step "
        "is a check.\ninput-bound: data takes longer than all the rest, or with workers over 5 % is spent waiting "
        "for them.\nHFU: FLOPs of the step, recomputed ones included, over the device's peak; below MFU where the "
        "backward leaves products out, as those for a gradient of the images.\n"
        "Memory is above imports and data; tensors are counted one by one and do not vary.",
        is_transposed=True,
    )


def _time_costs(row: Throughput) -> dict[str, Any]:
    figures, share = row.figures, row.data_share
    captions, total, step = figures["captions_per_second"], figures["phases_ms"], figures["step_ms"]
    return {
        **{f"{phase}, ms": one for phase in PHASES if (one := figures.get(PHASE + phase)) is not None},
        "sum of phases / step": total / step if total and step else None,
        "data, share of the phases": share,
        "bound": None if share is None else bound_by(share, prefetches=row.loader_workers > 0),
        **({"loader workers": row.loader_workers} if row.loader_workers else {}),
        "share of windows waited for batches": figures["data_wait_share"],
        "HFU": figures["hardware_flops_utilisation"],
        "targets, s per million captions": 1e6 / captions if captions else None,
        **{name.removeprefix(UTILISATION): one for name, one in figures.items() if name.startswith(UTILISATION)},
    }


def _memory_costs(memory: Memory) -> dict[str, Any]:
    sizes = {
        "tensors, MiB": memory.peak_tensor_bytes,
        "peak resident, MiB": memory.peak_rss_bytes,
        "peak allocated, MiB": memory.peak_allocated_bytes,
        "peak reserved, MiB": memory.peak_reserved_bytes,
        "process on the device, MiB": memory.process_bytes,
    }
    return {name: round(size / MIB, 1) for name, size in sizes.items() if size is not None}


def batch_trial_table(records: Sequence[Record], label: Callable[[str], str] = str) -> Table:
    """List every batch size that was tried under a memory limit, experiments by their labels."""
    columns = [Column.text("experiment"), Column("batch"), Column("limit, GiB"), Column.text("fits")]
    trials = [(r.experiment, r.measured) for r in records if isinstance(r.measured, BatchTrial) and r.experiment]
    trials.sort(key=lambda trial: (strip_settings(trial[0].name), trial[0].training.batch_size))
    rows = [
        [
            Cell.of_name(label(experiment.name), experiment.name),
            Cell.of(experiment.training.batch_size, format_count),
            Cell.of(trial.limit_bytes / GIB, "{:g}".format),
            Cell("yes" if trial.fits else "no: out of memory", trial.reason),
        ]
        for experiment, trial in trials
    ]
    return Table.of_rows("Batches tried under the memory limit", columns, rows)


def sample_table(records: Iterable[Record], label: Callable[[str], str] = str) -> Table:
    """List the samples that runs skipped, by what is wrong with them, or used with an empty caption."""
    counts = {
        (r.experiment.name, str(r.measured.__struct_config__.tag), what): number
        for r in records
        if isinstance(r.measured, RunOnSamples) and r.experiment
        for what, number in (r.measured.skipped | {EMPTY_CAPTION: r.measured.empty_captions}).items()
    }
    note = "Images that cannot be decoded count each time that the run, of several processes rank 0, reads them."
    rows = [
        [Cell.of_name(label(name), name), Cell.of(run), Cell.of(what), Cell.of(number, format_count)]
        for (name, run, what), number in counts.items()
        if number
    ]
    columns = [*Column.texts("experiment", "run", "what"), Column("samples")]
    return Table.of_rows("Samples skipped or without text", columns, rows, note)


def failure_table(records: Iterable[Record], label: Callable[[str], str] = str) -> Table:
    """List the runs that failed in the order of their starts, experiments by their labels."""
    columns = [*Column.texts("experiment", "run", "reason"), Column.text("started", "UTC")]
    failed = [(record, record.measured) for record in records if isinstance(record.measured, Failure)]
    failed.sort(key=lambda found: found[0].circumstances.started_at)
    rows = [
        [
            Cell.of_name(label(r.experiment.name), r.experiment.name) if r.experiment else Cell("none"),
            *map(Cell.of, (failure.what, failure.reason, r.circumstances.started_at)),
        ]
        for r, failure in failed
    ]
    return Table.of_rows("Runs that failed", columns, rows)
