"""What `python -m bench plan --json` wrote -> one HTML page: the same document gives the same bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MultipleLocator, NullLocator

from bench.plan.model import AS_GPUS_GROW
from reports.render.document import rendered
from reports.render.formats import UNMEASURED, count, percent, rate
from reports.render.svg import PAPER, drawing, hovered, look, shown, svg
from reports.render.tables import Cell, Column, Table, plain
from reports.speed.charts import names_at_ends

WIDTH, HEIGHT = 480, 300
LEFT, RIGHT, FOOT, TOP = 42, 140, 46, 10
TOP_SHARE = 1.05  # where the axis ends
WIDEST = 12  # columns; a table of more is turned round
FILE = "plan.json"


class Point(msgspec.Struct, frozen=True):
    """A row of the curves, as far as it is drawn."""

    experiment: str
    gpus: int = msgspec.field(name="GPUs")
    share: float = msgspec.field(name="of one alone")
    waiting: float = msgspec.field(name="communication, share")


class Figures(msgspec.Struct, frozen=True):
    """A table as it was written."""

    rows: list[dict[str, Any]]
    note: str = ""

    def __post_init__(self) -> None:
        """Raise ValueError where the rows of a table have not the same columns."""
        if any(row.keys() != self.rows[0].keys() for row in self.rows):
            raise ValueError("rows of one table have different columns")


@dataclass(frozen=True, slots=True)
class Shown:
    """A plan as a page shows it."""

    title: str
    chart: Markup
    curve: Table | None
    note: str
    sections: Sequence[tuple[str, Table | None, Sequence[str]]]  # title, table, notes


def plan_page(content: bytes, name: str) -> str:
    """Return the page of a plan, read from a file of this name; ValueError for a document of another kind."""
    return rendered("plan.html", plan=plan_of(content, name))


def read_plan(results: Path) -> bytes | None:
    """Return the bytes of the plan that lies beside the records; None where there is none."""
    path = results / FILE
    return path.read_bytes() if path.is_file() else None


def plan_of(content: bytes, name: str = FILE) -> Shown:
    """Return what is shown of a plan; ValueError for a document of another kind."""
    try:
        found = msgspec.json.decode(content, type=dict[str, Figures])
        points = msgspec.convert(found[AS_GPUS_GROW].rows, list[Point])
    except (msgspec.DecodeError, msgspec.ValidationError, KeyError, RecursionError) as error:
        raise ValueError(f"{name}: not what `python -m bench plan --json` writes: {error}") from None
    curves: dict[str, list[Point]] = {}
    for point in points:
        curves.setdefault(point.experiment, []).append(point)
    if not curves:
        raise ValueError(f"{name}: the plan has no curve")
    return Shown(
        title=next(iter(found)),
        chart=curve_chart(curves),
        curve=_table(AS_GPUS_GROW, found[AS_GPUS_GROW]),
        note=found[AS_GPUS_GROW].note,
        sections=[
            (title, _table(title, one), one.note.splitlines()) for title, one in found.items() if title != AS_GPUS_GROW
        ],
    )


def curve_chart(curves: Mapping[str, Sequence[Point]]) -> Markup:
    """Draw what is left of each GPU's images a second as there are more; hollow where more than half is waiting."""
    with drawing(WIDTH, HEIGHT) as figure:
        axes = figure.add_axes((LEFT / WIDTH, FOOT / HEIGHT, 1 - (LEFT + RIGHT) / WIDTH, 1 - (FOOT + TOP) / HEIGHT))
        numbers = sorted({point.gpus for points in curves.values() for point in points})
        axes.set_xscale("log", base=2)
        axes.set_xlim(0.8 * numbers[0], 1.25 * numbers[-1])
        axes.set_ylim(0, TOP_SHARE)
        axes.xaxis.set_major_locator(FixedLocator([n for n in numbers if n & (n - 1) == 0][::2]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
        axes.yaxis.set_major_locator(MultipleLocator(0.2))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: percent(value, 0)))
        axes.yaxis.grid(visible=True)
        axes.set_axisbelow(True)
        axes.set_xlabel("GPUs")
        for index, points in enumerate(curves.values()):
            _curve(axes, index, points)
        ends = [
            (shown(name, 19), points[-1].share / TOP_SHARE, look(index)[0])
            for index, (name, points) in enumerate(curves.items())
        ]
        names_at_ends(axes, ends, WIDTH - LEFT - RIGHT, HEIGHT - FOOT - TOP)
        told = "; ".join(
            f"{name} {percent(points[-1].share, 0)} on {points[-1].gpus:,}" for name, points in curves.items()
        )
        return svg(figure, "plan", f"Images a second of each GPU, over those of one alone, as GPUs grow. {told}.")


def _curve(axes: Axes, index: int, points: Sequence[Point]) -> None:
    colour, marker = look(index)
    axes.plot([point.gpus for point in points], [point.share for point in points], color=colour, linewidth=1.75)
    for point in points:
        inside = PAPER if point.waiting > 1 / 2 else colour
        mark = axes.plot(
            [point.gpus], [point.share], marker, color=inside, markersize=6.5, markeredgecolor=colour, clip_on=False
        )
        waiting = f"{percent(point.waiting, 0)} of the step is communication"
        hovered(mark[0], f"{point.experiment} on {point.gpus:,}: {percent(point.share, 0)} of one alone, {waiting}")


def _table(title: str, figures: Figures) -> Table | None:
    """Return a table as it was printed: one of many columns with one of its rows a column."""
    if not figures.rows:
        return None
    keys = list(figures.rows[0])
    if len(keys) <= WIDEST:
        columns = [Column(key, numeric=not isinstance(figures.rows[0][key], str)) for key in keys]
        return plain(title, columns, [[_cell(row[key]) for key in keys] for row in figures.rows])
    columns = [Column("figure", numeric=False), *(Column(str(row[keys[0]])) for row in figures.rows)]
    return plain(title, columns, [[Cell(key), *(_cell(row[key]) for row in figures.rows)] for key in keys[1:]])


def _cell(value: object) -> Cell:
    if value is None:
        return Cell(UNMEASURED, why="not known, or there is none")
    if isinstance(value, float):
        return Cell(rate(value), sort=value)
    return Cell(f"{value:,}", sort=value) if isinstance(value, int) else Cell(str(value))
