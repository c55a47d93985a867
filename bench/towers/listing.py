"""Towers of open_clip and timm by a pattern of their names, with their costs."""

from fnmatch import fnmatchcase

import open_clip
import timm
import torch

from bench.console.progress import iterate_with_progress_bar
from bench.profilers.counters import count_flops_of_one_image
from bench.tables.tables import Cell, Column, Table
from models import format_similar_names
from models.image_tower import build_image_tower, published_image_size

MAX_TOWERS = 100
COLUMNS = [
    Column.left_aligned("tower"),
    Column("px"),
    Column("width"),
    Column("parameters, M"),
    Column("GFLOP"),
]
NOTE = (
    "px: side of the images that the tower was published for; width: length of its feature; GFLOP: one forward of an\n"
    "image, a multiply-add is two."
)


def make_tower_table(pattern: str, max_towers: int = MAX_TOWERS) -> Table:
    """Return a table of the towers whose names match a shell pattern, with their costs; ValueError if none does."""
    names = list(dict.fromkeys(open_clip.list_models() + timm.list_models()))
    matching = [name for name in names if fnmatchcase(name, pattern)]
    if not matching:
        suggestion = format_similar_names(pattern.strip("*"), names)
        raise ValueError(f"no tower of open_clip or timm is named {pattern!r}{suggestion}")
    listed = matching[:max_towers]
    rows = [
        _make_tower_row(name)
        for name in iterate_with_progress_bar(listed, len(listed), "building towers", "towers")
    ]
    note = NOTE
    if len(matching) > max_towers:
        note += f"\n{len(matching) - max_towers:,} more towers match {pattern!r}; a narrower pattern lists them."
    return Table.of_rows("Towers", COLUMNS, rows, note)


def _make_tower_row(name: str) -> list[Cell]:
    """Return the row of a tower; if it cannot be built, the cells give the reason."""
    try:
        side = published_image_size(name)
        with torch.device("meta"):
            tower = build_image_tower(name, side, 0)
        flops = count_flops_of_one_image(tower, tower.channels, side)
    except Exception as error:  # noqa: BLE001 - neither library documents the exceptions of its towers
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        unmeasured = [Cell.unmeasured(reason)] * (len(COLUMNS) - 1)
        return [Cell.from_value(name), *unmeasured]
    parameters = sum(parameter.numel() for parameter in tower.parameters())
    figures = (name, side, tower.width, parameters / 1e6, flops / 1e9)
    return [Cell.from_value(figure) for figure in figures]
