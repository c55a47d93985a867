"""The tables of the summary of data, for the terminal, JSON and the page."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bench.features.data_summary.captions import FieldCaptions, find_script
from bench.features.data_summary.images import DECODED
from bench.features.data_summary.summary import DataSummary
from bench.tables.formats import format_count, format_percent, format_quantity, pluralize
from bench.tables.tables import NO_CELL, Cell, Column, Table

QUANTILES = {"least": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "most": 1.0}
MAX_SCRIPTS = 8  # in the table; the others are added up
CONTEXT = 77  # tokens after which CLIP cuts captions


def summary_tables(summary: DataSummary) -> list[Table]:
    """Return all tables, in the order of the terminal."""
    return [
        source_table(summary),
        size_table(summary),
        format_table(summary),
        caption_table(summary),
        script_table(summary),
        unusable_table(summary),
    ]


def source_table(summary: DataSummary) -> Table:
    """Return a table of one row, with the notes of the source beneath."""
    files = Cell.of(summary.num_files, format_count, _format_bytes(summary.file_bytes))
    if not summary.num_files:
        files = Cell("each sample has files of its own")
    is_exact = len(summary.images) == summary.num_samples
    num_copies = len(summary.images) - len({image.digest for image in summary.images})
    cells = {
        "data": Cell(summary.data),
        "read as": Cell(summary.source),
        "files": files,
        "samples": Cell.of(summary.num_samples, format_count),
        "images": Cell.of(
            summary.image_bytes, _format_bytes, "" if is_exact else "expected from the sample"
        ),
        "left out": Cell.of(summary.total - summary.num_samples, format_count),
        "exact copies": Cell.of(num_copies, format_count, f"of {len(summary.images):,} images"),
    }
    return _table_of_cells("Data", [cells], "\n".join([*summary.notes, *summary.refusals]))


def size_table(summary: DataSummary) -> Table:
    """Return quantiles of the sizes of the sampled images."""
    usable = summary.usable_images
    sizes = {
        "width, px": [image.width for image in usable],
        "height, px": [image.height for image in usable],
        "shorter side, px": [min(image.width, image.height) for image in usable],
        "bytes": [image.num_bytes for image in summary.images if image.kind != DECODED],
    }
    rows = []
    for name, values in sizes.items():
        if values:
            write = _format_bytes if name == "bytes" else format_count
            rows.append([Cell(name), *(Cell.of(value, write) for value in quantiles(values))])
    note = f"Images of {_describe_sample(len(summary.images), summary.num_samples)}; upright, as EXIF turns them."
    return Table.of_rows(
        "Sizes of images", [Column.text("quantity"), *map(Column, QUANTILES)], rows, note
    )


def format_table(summary: DataSummary) -> Table:
    """Return the number of sampled images by format."""
    kinds = Counter(image.kind for image in summary.images)
    flawed = Counter(image.kind for image in summary.images if image.flaw)
    rows = [
        [
            Cell(kind),
            Cell.of(number, format_count),
            Cell.of(number / kinds.total(), format_percent),
            Cell.of(flawed[kind], format_count),
        ]
        for kind, number in kinds.most_common()
    ]
    columns = [
        Column.text("format"),
        Column("images"),
        Column("share"),
        Column("cannot be decoded"),
    ]
    return Table.of_rows("Formats of images", columns, rows)


def caption_table(summary: DataSummary) -> Table:
    """Return the captions of each field: one row per field."""
    note = (
        f"Captions of {_describe_sample(len(summary.captions[0].per_sample), summary.num_samples)}. Tokens are those "
        "of CLIP's tokenizer, start and end token included.\n"
        "repeated: captions that are equal to an earlier one. nouns: of WordNet, as CatLIP labels captions."
    )
    if any(2 * captions.num_repeated > len(captions.texts) for captions in summary.captions):
        note += "\nMost of these captions are repeated and teach little: --caption FIELD reads another field."
    return _table_of_cells(
        "Captions", [_caption_cells(captions) for captions in summary.captions], note
    )


def _caption_cells(captions: FieldCaptions) -> dict[str, Cell]:
    num_empty = int((captions.per_sample == 0).sum())
    cells = {
        "field": Cell(captions.field),
        "without a caption": Cell.of(
            num_empty / len(captions.per_sample), format_percent, pluralize(num_empty, "sample")
        ),
        "captions per sample": Cell.of(
            float(captions.per_sample.mean()),
            "{:.2f}".format,
            f"{captions.per_sample.max():,} at most",
        ),
    }
    if not captions.texts:
        return cells
    for name, value in zip(QUANTILES, quantiles(captions.tokens), strict=True):
        cells[f"tokens, {name}"] = Cell.of(value, format_count)
    repeated = f"{captions.num_repeated:,} captions"
    cells[f"over {CONTEXT} tokens"] = Cell.of(
        float((captions.tokens > CONTEXT).mean()), format_percent
    )
    cells["repeated"] = Cell.of(
        captions.num_repeated / len(captions.texts), format_percent, repeated
    )
    cells["with a noun"] = Cell.of(float((captions.nouns > 0).mean()), format_percent)
    cells["nouns per caption"] = Cell.of(float(captions.nouns.mean()), "{:.2f}".format)
    return cells


def script_table(summary: DataSummary) -> Table:
    """Return the share of the captions in each script, by field."""
    rows_of_field = {}
    for captions in summary.captions:
        counts = dict(Counter(map(find_script, captions.texts)).most_common(MAX_SCRIPTS))
        counts["others"] = len(captions.texts) - sum(counts.values())
        rows_of_field[captions.field if len(summary.captions) > 1 else ""] = [
            [
                Cell(name),
                Cell.of(number, format_count),
                Cell.of(number / len(captions.texts), format_percent),
            ]
            for name, number in counts.items()
            if number
        ]
    columns = [Column.text("script"), Column("captions"), Column("share")]
    note = "The script of most letters of a caption. A script is not a language."
    return Table.of_groups("Scripts of captions", columns, rows_of_field, note)


def unusable_table(summary: DataSummary) -> Table:
    """Return the samples that a training leaves out or replaces, by reason."""
    rows = [
        _unusable_row(reason, number, summary.total, "left out")
        for reason, number in sorted(summary.skipped.items())
    ]
    for flaw, number in sorted(summary.flaws.items()):
        rows.append(
            _unusable_row(
                f"image: {flaw}", number, len(summary.images), "replaced by another sample"
            )
        )
    columns = [
        *Column.texts("reason"),
        *map(Column, ("samples", "of", "share")),
        *Column.texts("in a training"),
    ]
    return Table.of_rows("Samples that cannot be used", columns, rows)


def _unusable_row(reason: str, number: int, total: int, consequence: str) -> list[Cell]:
    counts = [
        Cell.of(number, format_count),
        Cell.of(total, format_count),
        Cell.of(number / total, format_percent),
    ]
    return [Cell(reason), *counts, Cell(consequence)]


def quantiles(values: Sequence[int] | npt.NDArray[np.int64]) -> list[int]:
    """Return values at the probabilities of QUANTILES."""
    at: list[int] = np.quantile(values, [*QUANTILES.values()], method="nearest").tolist()
    return at


def _table_of_cells(title: str, rows: Sequence[dict[str, Cell]], note: str) -> Table:
    """Return a table whose rows are named cells; the longest row has all names."""
    names = max(rows, key=len)
    columns = [Column(name, numeric=cell.value is not None) for name, cell in names.items()]
    cells = [[row.get(name, NO_CELL) for name in names] for row in rows]
    return Table(title, columns, {"": cells}, note, is_transposed=True)


def _describe_sample(number: int, total: int) -> str:
    return (
        f"all {total:,} samples"
        if number == total
        else f"{number:,} of {total:,} samples, drawn at random"
    )


def _format_bytes(number: float) -> str:
    return format_quantity(number, "B")
