"""Tables of experiments, of the batches that were tried, and of what runs skipped or why they failed. No torch here."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.experiment.config import Experiment
from bench.experiment.experiments import tuning_of
from bench.experiment.settings import strip_settings
from bench.records.record import BatchTrial, Failure, Record, RunOnSamples
from bench.statistics.ratios import Ratio
from bench.tables.formats import GIB, format_count
from bench.tables.tables import Cell, Column, Table

if TYPE_CHECKING:
    from bench.measure.costs import Costs

EMPTY_CAPTION = "empty caption (used)"


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


def ratio_columns(ratio: Ratio | None) -> dict[str, Any]:
    """Return the cells of a table that show a ratio, its 95 % interval, p and verdict."""
    names = {"ratio": "value", "low": "low", "high": "high", "p": "p", "verdict": "verdict"}
    return {column: ratio and getattr(ratio, name) for column, name in names.items()}


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
