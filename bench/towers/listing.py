"""Towers of open_clip and timm by a pattern of their names, with their costs."""

from fnmatch import fnmatchcase
from typing import Any

import open_clip
import timm
import torch

from bench.console.progress import iterate_with_progress_bar
from bench.profilers.counters import count_flops_of_one_image
from bench.tables.tables import Table
from models import format_similar_names
from models.image_tower import build_image_tower, published_image_size

MAX_TOWERS = 100
NOTE = (
    "px: side of the images that the tower was published for; width: length of its feature; GFLOP: one forward of an\n"
    "image, a multiply-add is two; not built: the reason."
)


def make_tower_table(pattern: str, max_towers: int = MAX_TOWERS) -> Table:
    """Return a table of the towers whose names match a shell pattern, with their costs; ValueError if none does."""
    names = list(dict.fromkeys(open_clip.list_models() + timm.list_models()))
    matching = [name for name in names if fnmatchcase(name, pattern)]
    if not matching:
        suggestion = format_similar_names(pattern.strip("*"), names)
        raise ValueError(f"no tower of open_clip or timm is named {pattern!r}{suggestion}")
    listed = matching[:max_towers]
    names_with_bar = iterate_with_progress_bar(listed, len(listed), "building towers", "towers")
    rows = [_build_tower_and_count_costs(name) for name in names_with_bar]
    note = NOTE
    if len(matching) > max_towers:
        note += f"\n{len(matching) - max_towers:,} more towers match {pattern!r}; a narrower pattern lists them."
    return Table.from_dicts("Towers", rows, note)


def _build_tower_and_count_costs(name: str) -> dict[str, Any]:
    """Return the costs of a tower by column; if it cannot be built, the reason."""
    try:
        side = published_image_size(name)
        with torch.device("meta"):
            tower = build_image_tower(name, side, 0)
        flops = count_flops_of_one_image(tower, tower.channels, side)
    except Exception as error:  # noqa: BLE001 - neither library documents the exceptions of its towers
        return {"tower": name, "not built": f"{type(error).__name__}: {error}".splitlines()[0]}
    parameters = sum(parameter.numel() for parameter in tower.parameters())
    return {
        "tower": name,
        "px": side,
        "width": tower.width,
        "parameters, M": parameters / 1e6,
        "GFLOP": flops / 1e9,
    }
