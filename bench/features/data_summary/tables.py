"""The tables of the summary of data, for the terminal, JSON and the page, and the commands to run next."""

import shlex
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bench.cli.verbs import VERBS
from bench.console.console import PROGRAM
from bench.data.shards.facts import MANIFEST_NAME
from bench.data.sources.tar_shards import TarShards
from bench.experiment.fields import PACK_DATA
from bench.features.data_summary.captions import FieldCaptionFacts
from bench.features.data_summary.images import DECODED
from bench.features.data_summary.summary import LOADED, DataSummary
from bench.tables.formats import format_count, format_percent, format_quantity, format_rate, format_seconds, pluralize
from bench.tables.tables import NO_CELL, Cell, Column, Table

QUANTILES = {"least": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "most": 1.0}
MAX_SCRIPTS = 8  # in the table; the others are added up
OTHER_SCRIPTS = "others"


def summary_tables(summary: DataSummary) -> list[Table]:
    """Return all tables, in the order of the terminal."""
    return [
        source_table(summary),
        size_table(summary),
        format_table(summary),
        caption_table(summary),
        script_table(summary),
        unusable_table(summary),
        loading_table(summary),
    ]


def source_table(summary: DataSummary) -> Table:
    """Return what the data are: one row, with the notes of the source beneath."""
    copies, is_exact = summary.duplicates, len(summary.images) == summary.samples
    files = Cell.of(summary.files, format_count, _write_bytes(summary.file_bytes))
    if not summary.files:
        files = Cell("each sample has files of its own")
    cells = {
        "data": Cell(summary.data),
        "read as": Cell(summary.source),
        "files": files,
        "samples": Cell.of(summary.samples, format_count),
        "images": Cell.of(summary.image_bytes, _write_bytes, "" if is_exact else "expected from the sample"),
        "left out": Cell.of(summary.total - summary.samples, format_count),
        "exact copies": Cell.of(copies.copies, format_count, f"of {copies.images:,} images"),
    }
    columns = [Column(name, numeric=cell.value is not None) for name, cell in cells.items()]
    notes = "\n".join([*summary.notes, *summary.refusals])
    return Table("Data", columns, {"": [[*cells.values()]]}, notes, is_transposed=True)


def size_table(summary: DataSummary) -> Table:
    """Return quantiles of the sizes of the sampled images."""
    usable, files = summary.usable_images, [one for one in summary.images if one.kind != DECODED]
    measured = {
        "width, px": [one.width for one in usable],
        "height, px": [one.height for one in usable],
        "shorter side, px": [min(one.width, one.height) for one in usable],
        "bytes": [one.num_bytes for one in files],
    }
    rows = [
        [
            Cell(name),
            *(Cell.of(value, _write_bytes if name == "bytes" else format_count) for value in quantiles(values)),
        ]
        for name, values in measured.items()
        if values
    ]
    note = f"Images of {_describe_sample(len(summary.images), summary.samples)}; upright, as EXIF turns them."
    return Table.of_rows("Sizes of images", [Column.text("quantity"), *map(Column, QUANTILES)], rows, note)


def format_table(summary: DataSummary) -> Table:
    """Return the number of sampled images by format."""
    kinds, flawed = Counter(one.kind for one in summary.images), Counter(one.kind for one in summary.images if one.flaw)
    rows = [
        [
            Cell(kind),
            Cell.of(number, format_count),
            Cell.of(number / kinds.total(), format_percent),
            Cell.of(flawed[kind], format_count),
        ]
        for kind, number in kinds.most_common()
    ]
    columns = [Column.text("format"), Column("images"), Column("share"), Column("cannot be decoded")]
    return Table.of_rows("Formats of images", columns, rows)


def caption_table(summary: DataSummary) -> Table:
    """Return the captions of each field: one row a field."""
    context = summary.experiment.text.context_length
    rows = [_caption_cells(facts, context) for facts in summary.captions]
    names = max(rows, key=len)  # a field without captions has fewer figures
    columns = [Column(name, numeric=name != "field") for name in names]
    note = (
        f"Captions of {_describe_sample(len(summary.captions[0].numbers), summary.samples)}. Tokens are those of "
        "CLIP's tokenizer, start and end token included.\n"
        "repeated: captions that are equal to an earlier one. nouns: of WordNet, as CatLIP labels captions."
    )
    if any(facts.num_captions > 2 * facts.distinct for facts in summary.captions):
        note += "\nMost of these captions are repeated and teach little: --caption FIELD reads another field."
    return Table(
        "Captions",
        columns,
        {"": [[row.get(name, NO_CELL) for name in names] for row in rows]},
        note,
        is_transposed=True,
    )


def _caption_cells(facts: FieldCaptionFacts, context: int) -> dict[str, Cell]:
    samples, captions = len(facts.numbers), facts.num_captions
    cells = {
        "field": Cell(facts.field),
        "without a caption": Cell.of(facts.empty / samples, format_percent, pluralize(facts.empty, "sample")),
        "captions per sample": Cell.of(float(facts.numbers.mean()), _write_mean, f"{facts.numbers.max():,} at most"),
    }
    if captions:
        repeated, with_noun = captions - facts.distinct, facts.labels > 0
        for name, value in zip(QUANTILES, quantiles(facts.lengths), strict=True):
            cells |= {f"tokens, {name}": Cell.of(value, format_count)}
        cells |= {
            f"over {context} tokens": Cell.of(float((facts.lengths > context).mean()), format_percent),
            "repeated": Cell.of(repeated / captions, format_percent, f"{repeated:,} captions"),
            "with a noun": Cell.of(float(with_noun.mean()), format_percent),
            "nouns per caption": Cell.of(float(facts.labels.mean()), _write_mean),
        }
    return cells


def script_table(summary: DataSummary) -> Table:
    """Return the share of the captions in each script, by field."""
    fields = {facts.field if len(summary.captions) > 1 else "": _script_rows(facts) for facts in summary.captions}
    columns = [Column.text("script"), Column("captions"), Column("share")]
    note = "The script of most letters of a caption. A script is not a language."
    return Table.of_groups("Scripts of captions", columns, fields, note)


def _script_rows(facts: FieldCaptionFacts) -> list[list[Cell]]:
    counts = dict(facts.scripts.most_common(MAX_SCRIPTS))
    if others := facts.num_captions - sum(counts.values()):
        counts[OTHER_SCRIPTS] = others
    return [
        [Cell(name), Cell.of(number, format_count), Cell.of(number / facts.num_captions, format_percent)]
        for name, number in counts.items()
    ]


def unusable_table(summary: DataSummary) -> Table:
    """Return the samples that a training leaves out or replaces, by reason."""
    found = [
        *((reason, number, summary.total, "left out") for reason, number in sorted(summary.skipped.items())),
        *(
            (f"image: {flaw}", number, len(summary.images), "replaced by another sample")
            for flaw, number in sorted(summary.flaws.items())
        ),
    ]
    rows = [
        [
            Cell(reason),
            Cell.of(number, format_count),
            Cell.of(of, format_count),
            Cell.of(number / of, format_percent),
            Cell(consequence),
        ]
        for reason, number, of, consequence in found
    ]
    columns = [*Column.texts("reason"), *map(Column, ("samples", "of", "share")), *Column.texts("in a training")]
    return Table.of_rows("Samples that cannot be used", columns, rows)


def loading_table(summary: DataSummary) -> Table:
    """Return how long an epoch takes to load, on one core and on all."""
    experiment, loading, cores = summary.experiment, summary.loading, sorted({1, summary.cores})
    what = f"{LOADED} at {experiment.image.image_size} px"
    if isinstance(loading, str):
        row = [Cell(what), *[Cell.unmeasured(loading)] * (2 + len(cores))]
        note = f"The loading was not timed: {loading}."
    else:
        rate = loading.images_per_second
        seconds = summary.samples / rate.value
        row = [
            Cell(what),
            Cell(format_rate(rate.value), "", rate.value, interval=(rate.low, rate.high)),
            Cell.of(loading.cpu_share, format_percent),
            *(Cell.of(seconds / number, format_seconds) for number in cores),
        ]
        note = (
            f"Measured on {loading.images:,} images in one thread: reading, decoding, cropping and tokenising. The "
            "epoch on several cores is that of one core, divided.\n"
            "CPU share: a low one means that loading waited, for the disk or for other processes."
        )
    columns = [Column.text("experiment"), Column("images/s per core"), Column("CPU share")]
    columns += [Column(f"epoch on {pluralize(number, 'core')}") for number in cores]
    return Table.of_rows("Loading", columns, [row], note)


def next_commands(summary: DataSummary) -> list[str]:
    """Return the command lines that a person may run next; for data that a training refuses, those that mend them."""
    if summary.data == PACK_DATA:
        return [f"{PROGRAM}    # the default comparison"]
    data = shlex.quote(summary.data)
    caption = f" --caption {shlex.quote(summary.caption)}" if summary.caption is not None else ""
    train = f"train catlip-tiny --data {data}{caption}"
    if summary.refusals:
        return [
            "# When the files are repaired:",
            f"{PROGRAM} data {data}{caption}",
            "# Or on the usable samples alone:",
            f"{PROGRAM} data {data}{caption} --keys keys.csv",
            f"{PROGRAM} {train} --set subset=keys.csv --count-vocabulary",
        ]
    written = f"; writes {MANIFEST_NAME} beside the shards" if summary.source == TarShards.name else ""
    purposes = {
        f"doctor --shards {data}{caption}": f"the speed of loading, and the cores that a GPU needs{written}",
        f"label {data}{caption} --count-only --out vocabulary.json": "the nouns of the captions, as a vocabulary",
        f"{train} --count-vocabulary --out results/catlip": "a first training",
        f"--data {data}{caption}": "the default comparison on these data",
    }
    there = {line: purpose for line, purpose in purposes.items() if line.startswith("-") or line.split()[0] in VERBS}
    width = max(map(len, there))
    return [f"{PROGRAM} {line:{width}}  # {purpose}" for line, purpose in there.items()]


def quantiles(values: Sequence[int] | npt.NDArray[np.int64]) -> list[int]:
    """Return values at the probabilities of QUANTILES."""
    found: list[int] = np.quantile(values, [*QUANTILES.values()], method="nearest").tolist()
    return found


def _describe_sample(number: int, total: int) -> str:
    return f"all {total:,} samples" if number == total else f"{number:,} of {total:,} samples, drawn at random"


def _write_bytes(number: float) -> str:
    return format_quantity(number, "B")


def _write_mean(number: float) -> str:
    return f"{number:.2f}"
