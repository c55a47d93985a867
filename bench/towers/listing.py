"""Towers of open_clip and timm by a pattern of their names, with their costs and the methods that can train them."""

from fnmatch import fnmatchcase

import open_clip
import timm
import torch

from bench.console.progress import show_progress
from bench.experiment.experiments import EXPERIMENTS, METHOD_SETTINGS, SCALES
from bench.profilers.counters import count_image_flops
from bench.tables.tables import Cell, Column, Table
from models import similar_names
from models.image_tower import ImageTower, build_image_tower, published_image_size
from models.token_subsets import Pooling

MAX_TOWERS = 100
COLUMNS = [
    Column.text("tower"),
    Column("px"),
    Column("width"),
    Column("parameters, M"),
    Column("GFLOP"),
    Column.text("methods"),
]
NOTE = (
    "px: side of the images that the tower was published for; width: length of its feature; GFLOP: one forward of an\n"
    "image, a multiply-add is two; methods: those that can train it with their own settings."
)


def tower_table(pattern: str, limit: int = MAX_TOWERS) -> Table:
    """List the towers whose names match a pattern of the shell, built without weights; ValueError if none does."""
    names = list(dict.fromkeys([*open_clip.list_models(), *timm.list_models()]))
    matching = [name for name in names if fnmatchcase(name, pattern)]
    if not matching:
        near = similar_names(pattern.strip("*"), names)
        advice = f"did you mean {' or '.join(near)}?" if near else "'vit_*' and 'ViT-*' match some"
        raise ValueError(f"no tower of open_clip or timm is named {pattern!r}; {advice}")
    shown = matching[:limit]
    reasons = dict[str, str]()  # why a tower or a method is not there: the first example
    rows = [
        _row(name, reasons)
        for name in show_progress(shown, len(shown), "building towers", "towers")
    ]
    lines = [NOTE, *(f"{name}: {reason}." for name, reason in reasons.items())]
    if len(matching) > len(shown):
        num_others = len(matching) - len(shown)
        lines.append(
            f"{num_others:,} more towers match {pattern!r}; a narrower pattern lists them."
        )
    return Table.of_rows("Towers", COLUMNS, rows, "\n".join(lines))


def _row(name: str, reasons: dict[str, str]) -> list[Cell]:
    """Return the cells of a tower, and add the reasons why methods cannot train it to `reasons`."""
    try:
        side = published_image_size(name)
        tower = _build(name, side)
        flops = count_image_flops(tower, tower.channels, side)
    except Exception as error:  # noqa: BLE001 - neither library documents the exceptions of its towers
        reasons[name] = f"{type(error).__name__}: {error}".splitlines()[0]
        return [Cell.plain(name), *[Cell.unmeasured(reasons[name])] * 4, Cell("none", value=[])]
    parameters = sum(parameter.numel() for parameter in tower.parameters())
    unable = unsupported_methods(name, side)
    for method, reason in unable.items():
        reasons.setdefault(method, reason)
    able = [method for method in METHOD_SETTINGS if method not in unable]
    figures = [
        Cell.plain(value) for value in (name, side, tower.width, parameters / 1e6, flops / 1e9)
    ]
    return [*figures, Cell(f"all but {', '.join(unable)}" if unable else "all", value=able)]


def unsupported_methods(tower: str, side: int) -> dict[str, str]:
    """Return the methods whose settings a tower does not accept at an image side, each with the reason."""
    reasons = dict[str, str]()
    reason_by_settings = dict[tuple[float, Pooling], str]()
    for method in METHOD_SETTINGS:
        settings = _patch_drop_and_pooling(method)
        if settings not in reason_by_settings:
            reason_by_settings[settings] = _reason_not_built(tower, side, *settings)
        if reason_by_settings[settings]:
            reasons[method] = reason_by_settings[settings]
    return reasons


def _reason_not_built(tower: str, side: int, patch_drop: float, pooling: Pooling) -> str:
    try:
        _build(tower, side, patch_drop, pooling)
    except ValueError as error:
        return str(error)
    return ""


def _patch_drop_and_pooling(method: str) -> tuple[float, Pooling]:
    image = EXPERIMENTS[f"{method}-{next(iter(SCALES))}"].image
    return image.patch_drop, image.pooling


def _build(name: str, side: int, patch_drop: float = 0.0, pooling: Pooling = "own") -> ImageTower:
    with torch.device("meta"):
        return build_image_tower(name, side, 0, patch_drop=patch_drop, pooling=pooling)
