"""The charts of learning: accuracy against what it cost, and the losses of training."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator
from matplotlib.transforms import ScaledTranslation

from reports.charts import series_colour, series_index, series_marker, thousands
from reports.formats import accuracy
from reports.frames import Comparison, losses_frame
from reports.scores import FLOOR, Point, Scored, points, tasks
from reports.svg import INK, LINE, MUTED, PAPER, dodged, drawing, shown, svg

WIDTH, HEIGHT = 440, 270
LEFT, RIGHT, FOOT, TOP = 30, 152, 44, 8
LOW_TOP = 0.5  # an axis that ends here or below is marked at each tenth
LABEL_GAP = 15.5  # units between two labels' middles
REFERENCE_DASHES = ((4.0, 3.0), (1.0, 2.5), (7.0, 2.0, 1.0, 2.0), (2.0, 6.0))
LOSS_HEIGHT = 220
SHIFT = 4.0  # units between the marks of two subjects at the same place
CHANCE = "commonest class"


@dataclass(frozen=True, slots=True)
class Look:
    """How a subject is drawn; `beside` moves its marks to the side, in SVG units."""

    colour: str
    marker: str
    beside: float


def accuracy_chart(
    comparison: Comparison, answers: Sequence[Scored], task: str, protocol: str, rates: dict[str, float] | None
) -> Markup:
    """Draw one task's accuracies against images seen, or against device seconds where `rates` are given."""
    found = [
        point for point in points(answers, task, protocol) if point.is_reference or _cost(point, rates) is not None
    ]
    majority = next(one.score.majority for one in answers if one.score.task == task)
    with drawing(WIDTH, HEIGHT) as figure:
        axes = figure.add_axes((LEFT / WIDTH, FOOT / HEIGHT, 1 - (LEFT + RIGHT) / WIDTH, 1 - (FOOT + TOP) / HEIGHT))
        top = _axes_of_accuracy(axes, found, rates)
        labels = [_reference(axes, index, *line) for index, line in enumerate(_references(found, majority))]
        start = next((point.accuracy.value for point in found if point.subject == FLOOR), None)
        subjects = dict.fromkeys(point.subject for point in found if not point.is_reference)
        for index, subject in enumerate(subjects):
            own = sorted((point for point in found if point.subject == subject), key=lambda point: point.images)
            colour, marker = series_colour(comparison, subject), series_marker(comparison, subject)
            costs = [_cost(point, rates) or 0.0 for point in own]
            beside = SHIFT * (index - (len(subjects) - 1) / 2)
            _line(axes, own, costs, start, Look(colour, marker, beside))
            labels.append((comparison.label(subject), own[-1].accuracy.value, colour))
        _write_labels(axes, labels, top)
        against = "images seen" if rates is None else "device seconds"
        told = "; ".join(f"{name} {accuracy(value)}" for name, value, _ in labels)
        name = f"accuracy-{'images' if rates is None else 'seconds'}-{tasks(answers).index(task)}"
        return svg(figure, name, f"{task}: accuracy by {protocol} against {against}. At the last point: {told}.")


def loss_chart(comparison: Comparison, experiment: str) -> Markup:
    """Draw an experiment's losses, all its seeds, cool-downs branching off the trunk."""
    frame = losses_frame(comparison, of=experiment)
    with drawing(WIDTH, LOSS_HEIGHT) as figure:
        axes = figure.add_axes((48 / WIDTH, 44 / LOSS_HEIGHT, 1 - 64 / WIDTH, 1 - 56 / LOSS_HEIGHT))
        for _, run in frame.groupby("seed", sort=False):
            trunk = run[run["part"] == "trunk"]
            for part, curve in run.groupby("part", sort=False):
                colour = series_colour(comparison, experiment) if part == "trunk" else INK
                before = trunk[trunk["images"] < curve["images"].iloc[0]].tail(1)  # where it branches off
                joined = pd.concat([before, curve])
                axes.plot(joined["images"], joined["loss"], color=colour, linewidth=1.5, alpha=0.8)
        axes.set_xlim(left=0)
        axes.yaxis.grid(visible=True)
        axes.xaxis.set_major_formatter(FuncFormatter(thousands))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel("images seen")
        axes.set_ylabel("loss, nats")
        losses = frame[frame["part"] == "trunk"]["loss"]
        told = f"The trunk begins at {losses.iloc[0]:.4g} and ends at {losses.iloc[-1]:.4g}." if len(losses) else ""
        name = f"loss-{series_index(comparison, experiment)}"
        return svg(figure, name, f"Training loss of {comparison.label(experiment)} in nats. {told}")


def _axes_of_accuracy(axes: Axes, found: Sequence[Point], rates: dict[str, float] | None) -> float:
    """Scale from zero to the next tenth above all figures; return the top."""
    highest = max([point.accuracy.high or point.accuracy.value for point in found], default=1.0)
    top = min(1.0, (int(highest * 10) + 1) / 10)
    furthest = max((_cost(point, rates) or 0.0 for point in found if not point.is_reference), default=1.0)
    axes.set_ylim(0, top)
    axes.set_xlim(0, 1.04 * (furthest or 1.0))
    axes.yaxis.grid(visible=True)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_locator(MultipleLocator(0.1 if top <= LOW_TOP else 0.2))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.1f}".removeprefix("0") if value else "0"))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(thousands))
    axes.set_xlabel("images seen" if rates is None else "seconds on this device")
    return top


def _references(found: Sequence[Point], majority: float) -> list[tuple[str, float]]:
    names = {FLOOR: "untrained tower"}
    lines = [(names.get(p.subject, p.subject), p.accuracy.value) for p in found if p.is_reference]
    return [*lines, (CHANCE, majority)]


def _reference(axes: Axes, index: int, name: str, value: float) -> tuple[str, float, str]:
    dashes = REFERENCE_DASHES[index % len(REFERENCE_DASHES)]
    axes.axhline(value, color=MUTED, linewidth=1, linestyle=(0, dashes))
    return name, value, MUTED


def _line(axes: Axes, own: Sequence[Point], costs: Sequence[float], start: float | None, look: Look) -> None:
    """Draw one subject's points with intervals, set beside other subjects' so that they do not hide one another."""
    values = [point.accuracy.value for point in own]
    assert axes.figure is not None
    beside = axes.transData + ScaledTranslation(look.beside / 72, 0, axes.figure.dpi_scale_trans)
    x, y = ([0.0, *costs], [start, *values]) if start is not None else (costs, values)
    axes.plot(x, y, color=look.colour, linewidth=1.25, alpha=0.5, clip_on=False)
    for point, at in zip(own, costs, strict=True):
        low, high = point.accuracy.low, point.accuracy.high
        if low is not None and high is not None:
            ends = ([at, at], [low, high])
            axes.plot(*ends, color=look.colour, linewidth=1.25, alpha=0.7, transform=beside, clip_on=False)
        if len(point.runs) > 1:
            seeds = [run.accuracy for run in point.runs]
            axes.plot([at] * len(seeds), seeds, "_", color=look.colour, markersize=5, transform=beside, clip_on=False)
    marks = axes.plot(costs, values, look.marker, color=look.colour, markersize=6.5, transform=beside, clip_on=False)
    marks[0].set(markeredgecolor=PAPER, markeredgewidth=0.75)


def _write_labels(axes: Axes, labels: Sequence[tuple[str, float, str]], top: float) -> None:
    """Write names and last figures at the right, moved apart, each tied to its value by a thin line."""
    height = HEIGHT - FOOT - TOP
    wanted = [value / top * height for _, value, _ in labels]
    placed = dodged(wanted, LABEL_GAP, 6.0, height - 4.0)
    right = WIDTH - LEFT - RIGHT
    for (name, value, colour), start, place in zip(labels, wanted, placed, strict=True):
        ends = ([1.0, 1 + 6 / right, 1 + 16 / right], [start / height, start / height, place / height])
        axes.plot(*ends, color=LINE, linewidth=0.75, transform=axes.transAxes, clip_on=False)
        axes.text(
            1 + 19 / right,
            place / height,
            f"{shown(name, 15)} {accuracy(value)}",
            color=colour,
            fontsize=12,
            transform=axes.transAxes,
            va="center_baseline",
        )


def _cost(point: Point, rates: dict[str, float] | None) -> float | None:
    if rates is None:
        return float(point.images)
    rate = rates.get(point.subject)
    return point.images / rate if rate else None
