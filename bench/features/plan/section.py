"""A document of `python -m bench plan --json` -> one HTML page, or a section of one; equal bytes give equal bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
from markupsafe import Markup
from matplotlib.ticker import MultipleLocator
from tyro.conf import Positional

from bench.console.console import OK, PROGRAM
from bench.environment.files import prefix_errors, read_limited
from bench.features.plan.inverse import POINTS_TITLE, SOLUTION_TITLE
from bench.features.plan.model import SCALING_TITLE
from bench.interfaces.sections import Block, Chart, Heading, PageContext, Text
from bench.tables.formats import UNMEASURED, format_percent, format_rate, format_ratio
from bench.tables.tables import Cell, Column, Table
from reports.render.document import render_page, write_page
from reports.render.frames import group_by
from reports.render.svg import (
    INK,
    PAPER,
    SERIES,
    add_tooltip,
    colour_and_marker,
    draw_marks,
    drawing,
    label_line_ends,
    margin_axes,
    set_log2_x_axis,
    svg,
)

WIDTH, HEIGHT = 480, 300
LEFT, RIGHT, FOOT, TOP = 42, 140, 46, 10
TOP_SHARE = 1.05  # the upper end of the axis
MOST_COLUMNS = 12  # a wider table is transposed
PLAN_FILE = "plan.json"
# Captions of charts, with the meaning of their marks.
SCALING_TEXTS = (
    "Images per second per GPU, relative to one GPU alone",
    "Hollow marks: communication takes more than half of the step.",
)
SOLUTION_TEXTS = (
    "Ratio of MFU that the published ratio needs, by the network between nodes",
    (
        "Lines: needed at a latency. Marks: MFU of published trainings of one model, largest over least, at their "
        "network. Dashed: measured on one device."
    ),
)


class PlanPoint(msgspec.Struct, frozen=True):
    """A point of a curve."""

    experiment: str
    gpus: int = msgspec.field(name="GPUs")
    share: float = msgspec.field(name="of one alone")
    waiting: float = msgspec.field(name="communication, share")


class PlanTable(msgspec.Struct, frozen=True):
    """A table of the document."""

    rows: list[dict[str, Any]]
    note: str = ""

    def __post_init__(self) -> None:
        """Raise ValueError where the rows of a table differ in their columns."""
        if any(row.keys() != self.rows[0].keys() for row in self.rows):
            raise ValueError("rows of one table have different columns")


class SolutionPoint(msgspec.Struct, frozen=True):
    """A network, and the ratio of MFU that it leaves to explain."""

    network: float = msgspec.field(name="network, GB/s")
    latency: float = msgspec.field(name="latency, us")
    needed: float | None = msgspec.field(name="MFU ratio needed")


class MfuDifference(msgspec.Struct, frozen=True):
    """A published or measured ratio of MFU."""

    difference: str
    ratio: float = msgspec.field(name="MFU ratio")
    network: float | None = msgspec.field(name="network, GB/s")


@dataclass(frozen=True)
class PlanPage:
    """Write the page of a plan and print its path."""

    plan: Positional[Path]
    """Document that `plan --json` wrote."""
    out: Path | None = None
    """Path of the page; default that of the plan with the suffix .html."""

    def run(self) -> int:
        """Read the plan and write the page."""
        text = plan_page(read_limited(self.plan), str(self.plan))
        write_page(self.out or self.plan.with_suffix(".html"), text.encode())
        return OK


def plan_page(content: bytes, name: str) -> str:
    """Return the page of the plan in a file of this name; raise ValueError for a document of another kind."""
    title, blocks = plan_blocks(content, name)
    eyebrow = "Prediction from the steps of one device and a communication model"
    return render_page(title, title, eyebrow=eyebrow, answer=blocks, answer_label="Scaling")


def plan_blocks(content: bytes, name: str = PLAN_FILE) -> tuple[str, list[Block]]:
    """Return the title of a plan, its chart and its tables; raise ValueError for a document of another kind."""
    broken = (msgspec.DecodeError, msgspec.ValidationError, KeyError, RecursionError)
    with prefix_errors(f"{name} is not a document of `{PROGRAM} plan --json`", broken):
        found = msgspec.json.decode(content, type=dict[str, PlanTable])
        charted = SOLUTION_TITLE if SOLUTION_TITLE in found else SCALING_TITLE
        rows = found[charted].rows
        if charted == SOLUTION_TITLE:
            differences = msgspec.convert(found[POINTS_TITLE].rows, list[MfuDifference])
            chart = solution_chart(msgspec.convert(rows, list[SolutionPoint]), differences)
            title, (caption, legend) = SOLUTION_TITLE, SOLUTION_TEXTS
        else:
            points = msgspec.convert(rows, list[PlanPoint])
            if not points:
                raise ValueError(f"{name}: the plan has no curve; write it again with `{PROGRAM} plan --json`")
            chart = curve_chart(group_by(points, lambda point: point.experiment))
            title, (caption, legend) = next(iter(found)), SCALING_TEXTS
    curve = _table(charted, found[charted])
    blocks: list[Block] = [
        Chart(chart, caption, [legend], table=replace(curve, note=""), width="wide"),
        *(Text(line, "under") for line in curve.note.splitlines()),
    ]
    for name_of_table, one in found.items():
        if name_of_table != charted and one.rows:
            blocks += [Heading(name_of_table), _table(name_of_table, one)]
    return title, blocks


def build(page: PageContext) -> Sequence[Block] | None:
    """Return the chart and the tables of the plan beside the records, if there is one."""
    if (content := page.documents.get(PLAN_FILE)) is None:
        return None
    note = Markup(
        "This is a prediction, not a measurement: from the steps of one device and a communication model "
        "(<code>plan.json</code> in the folder of the records)."
    )
    _, blocks = plan_blocks(content)
    return [Text(note, "protocol"), *blocks]


def solution_chart(points: Sequence[SolutionPoint], differences: Sequence[MfuDifference]) -> Markup:
    """Draw the needed ratio of MFU by bandwidth, a line for each latency, and the known ratios of MFU."""
    known = [point for point in points if point.needed is not None]
    with drawing(WIDTH, HEIGHT) as figure:
        axes = margin_axes(figure, LEFT, RIGHT, FOOT, TOP)
        networks = sorted({point.network for point in points})
        set_log2_x_axis(axes, 0.8 * networks[0], 1.25 * networks[-1], networks[::2])
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.2g}")
        axes.set_ylim(1, TOP_SHARE * max([point.needed or 1.0 for point in known] + [one.ratio for one in differences]))
        axes.set_xlabel("GB/s per GPU between nodes")
        ends, descriptions = [], []
        for index, (latency, line) in enumerate(group_by(known, lambda point: point.latency).items()):
            colour, _ = colour_and_marker(index)
            needed = sorted((point.network, point.needed or 1.0) for point in line)
            axes.plot(*zip(*needed, strict=True), color=colour, linewidth=1.75)
            ends.append((f"{latency:g} µs", needed[-1][1], colour))
            descriptions.append(f"{latency:g} microseconds {format_ratio(needed[-1][1])}")
        for one in differences:
            text = f"{one.difference}: {format_ratio(one.ratio)}"
            if one.network is None:
                add_tooltip(axes.axhline(one.ratio, color=INK, linewidth=1.5, linestyle="--"), text)
            else:
                draw_marks(axes, [one.network], [one.ratio], "D", SERIES[3], text)
        label_line_ends(axes, ends, longest=19)
        described = "; ".join([*descriptions, *(f"{one.difference} {format_ratio(one.ratio)}" for one in differences)])
        return svg(figure, "solution", f"Ratio of MFU needed, by network; at the fastest network: {described}.")


def curve_chart(curves: Mapping[str, Sequence[PlanPoint]]) -> Markup:
    """Draw the scaling efficiency by number of GPUs; hollow where communication exceeds half of the step."""
    with drawing(WIDTH, HEIGHT) as figure:
        axes = margin_axes(figure, LEFT, RIGHT, FOOT, TOP)
        numbers = sorted({point.gpus for points in curves.values() for point in points})
        ticks = [number for number in numbers if number & (number - 1) == 0][::2]
        set_log2_x_axis(axes, 0.8 * numbers[0], 1.25 * numbers[-1], ticks)
        axes.set_ylim(0, TOP_SHARE)
        axes.yaxis.set_major_locator(MultipleLocator(0.2))
        axes.yaxis.set_major_formatter(lambda value, _: format_percent(value, 0))
        axes.set_xlabel("GPUs")
        ends, descriptions = [], []
        for index, (name, points) in enumerate(curves.items()):
            (colour, marker), last = colour_and_marker(index), points[-1]
            axes.plot([point.gpus for point in points], [point.share for point in points], color=colour, linewidth=1.75)
            for point in points:
                fill = PAPER if point.waiting > 1 / 2 else colour
                waiting = f"{format_percent(point.waiting, 0)} of the step is communication"
                text = f"{name} on {point.gpus:,}: {format_percent(point.share, 0)} of one alone, {waiting}"
                x, y = [point.gpus], [point.share]
                draw_marks(axes, x, y, marker, fill, text, markeredgecolor=colour, markeredgewidth=1, clip_on=False)
            ends.append((name, last.share, colour))
            descriptions.append(f"{name} {format_percent(last.share, 0)} on {last.gpus:,}")
        label_line_ends(axes, ends, longest=19)
        text = "; ".join(descriptions)
        return svg(figure, "plan", f"Images per second per GPU, relative to one GPU alone, by number of GPUs. {text}.")


def _table(title: str, figures: PlanTable) -> Table:
    """Return a table as the terminal prints it: a wide one transposed."""
    first, keys = figures.rows[0], list(figures.rows[0])
    columns = [Column(key, numeric=not isinstance(first[key], str)) for key in keys]
    rows = [[_value_cell(row[key]) for key in keys] for row in figures.rows]
    if len(keys) > MOST_COLUMNS:
        columns = [Column.text("figure"), *(Column(str(row[keys[0]])) for row in figures.rows)]
        rows = [[Cell(key), *(_value_cell(row[key]) for row in figures.rows)] for key in keys[1:]]
    return Table.of_rows(title, columns, rows, figures.note)


def _value_cell(value: object) -> Cell:
    if value is None:
        return Cell(UNMEASURED, why="unknown, or not applicable")
    if isinstance(value, float):
        return Cell(format_rate(value), value=value)
    return Cell(f"{value:,}", value=value) if isinstance(value, int) else Cell(str(value))
