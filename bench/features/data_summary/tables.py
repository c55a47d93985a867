"""The tables of the summary of data, for the terminal, JSON and the page."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.features.data_summary.summary import DataSummary, FieldCaptions
from bench.tables.formats import format_count, format_percent, format_quantity
from bench.tables.tables import MISSING_CELL, Cell, Column, Table

QUANTILES = {"least": 0.0, "5 %": 0.05, "median": 0.5, "95 %": 0.95, "most": 1.0}
CONTEXT = 77  # tokens after which CLIP cuts captions
CAPTIONS_NOTE = (
    "Tokens are those of CLIP's tokenizer, start and end token included.\n"
    "repeated: captions that are equal to an earlier one. nouns: of WordNet, as CatLIP labels captions."
)


def summary_tables(summary: DataSummary) -> list[Table]:
    """Return all tables, in the order of the terminal."""
    return [
        data_overview_table(summary),
        image_size_quantile_table(summary),
        caption_statistics_table(summary),
        unusable_sample_table(summary),
    ]


def data_overview_table(summary: DataSummary) -> Table:
    """Return a table of one row: files, samples and bytes of the images; notes of the source beneath."""
    num_images = len(summary.images)
    num_bytes = sum(image.num_bytes for image in summary.images)
    files = Cell.of(summary.num_files, format_count, _format_bytes(summary.file_bytes))
    if not summary.num_files:
        files = Cell("each sample has files of its own")
    note = ""
    if num_images < summary.num_samples:
        num_bytes = round(summary.num_samples * num_bytes / num_images)
        note = "expected from the sample"
    cells = {
        "data": Cell(summary.data),
        "read as": Cell(summary.source),
        "files": files,
        "samples": Cell.of(summary.num_samples, format_count),
        "images": Cell.of(num_bytes, _format_bytes, note),
        "left out": Cell.of(summary.total - summary.num_samples, format_count),
    }
    return _table_of_cells("Data", [cells], "\n".join(summary.notes))


def image_size_quantile_table(summary: DataSummary) -> Table:
    """Return quantiles of the sizes of the sampled images."""
    images = summary.usable_images
    sizes = {
        "width, px": [image.width for image in images],
        "height, px": [image.height for image in images],
        "shorter side, px": [min(image.width, image.height) for image in images],
        "bytes": [image.num_bytes for image in images],
    }
    rows = []
    for name, values in sizes.items():
        if values:
            rows.append({"quantity": name, **compute_quantiles_by_name(values)})
    sample = _describe_sample_size(len(summary.images), summary.num_samples)
    note = f"Images of {sample}; upright, as EXIF turns them."
    return Table.from_dicts("Sizes of images", rows, note)


def caption_statistics_table(summary: DataSummary) -> Table:
    """Return the captions of each field: one row per field."""
    sample = _describe_sample_size(len(summary.captions[0].per_sample), summary.num_samples)
    note = "\n".join([f"Captions of {sample}. {CAPTIONS_NOTE}", *summary.label_warnings])
    rows = [_caption_cells(captions) for captions in summary.captions]
    return _table_of_cells("Captions", rows, note)


def _caption_cells(captions: FieldCaptions) -> dict[str, Cell]:
    """Return the cells of a field by the names of their columns; a field without captions has only the first three."""
    mean = float(captions.per_sample.mean())
    most = f"{captions.per_sample.max():,} at most"
    cells = {
        "field": Cell(captions.field),
        "without a caption": _share_cell(captions.per_sample == 0),
        "captions per sample": Cell.of(mean, "{:.2f}".format, most),
    }
    if captions.texts:
        for name, value in compute_quantiles_by_name(captions.num_tokens).items():
            cells[f"tokens, {name}"] = Cell.of(value, format_count)
        repeated = captions.num_repeated / len(captions.texts)
        cells[f"over {CONTEXT} tokens"] = _share_cell(captions.num_tokens > CONTEXT)
        cells["repeated"] = Cell.of(repeated, format_percent)
        cells["with a noun"] = _share_cell(captions.num_nouns > 0)
        cells["nouns per caption"] = Cell.of(float(captions.num_nouns.mean()), "{:.2f}".format)
    return cells


def unusable_sample_table(summary: DataSummary) -> Table:
    """Return the samples that a training leaves out or replaces, by reason."""
    rows = []
    for reason, number in sorted(summary.skipped.items()):
        rows.append(_unusable_row(reason, number, summary.total, "left out"))
    for flaw, number in sorted(summary.flaw_counts.items()):
        consequence = "replaced by another sample"
        rows.append(_unusable_row(f"image: {flaw}", number, len(summary.images), consequence))
    return Table.from_dicts("Samples that cannot be used", rows)


def _unusable_row(reason: str, number: int, total: int, consequence: str) -> dict[str, Any]:
    """Return the cells of a reason by the names of their columns."""
    return {
        "reason": reason,
        "samples": number,
        "of": total,
        "share": format_percent(number / total),
        "in a training": consequence,
    }


def compute_quantiles_by_name(values: Sequence[int] | npt.NDArray[np.int64]) -> dict[str, int]:
    """Return the least, 5 %, median, 95 % and largest value; each is one of the values."""
    values_at = np.quantile(values, list(QUANTILES.values()), method="nearest")
    return dict(zip(QUANTILES, values_at.tolist(), strict=True))


def _share_cell(is_true: npt.NDArray[np.bool_]) -> Cell:
    return Cell.of(float(is_true.mean()), format_percent)


def _table_of_cells(title: str, rows: Sequence[dict[str, Cell]], note: str) -> Table:
    """Return a table whose rows are named cells; the longest row has all names."""
    names = max(rows, key=len)
    columns = [Column(name, is_numeric=cell.value is not None) for name, cell in names.items()]
    cells = [[row.get(name, MISSING_CELL) for name in names] for row in rows]
    return Table(title, columns, {"": cells}, note, is_transposed=True)


def _describe_sample_size(number: int, total: int) -> str:
    if number == total:
        return f"all {total:,} samples"
    return f"{number:,} of {total:,} samples, drawn at random"


def _format_bytes(number: float) -> str:
    return format_quantity(number, "B")
