"""A matplotlib figure -> inline SVG whose fonts, colours and themes come from the page's style sheet."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.style import context as style
from numpy.typing import ArrayLike

# Placeholder colours for matplotlib; the style sheet defines them for the light and the dark theme.
INK = "#a1b2c0"
MUTED = "#a1b2c1"
LINE = "#a1b2c2"
PAPER = "#a1b2c3"
SERIES = tuple(f"#a1b20{number}" for number in range(1, 9))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")  # a series differs in more than its colour
CSS = {
    INK: "currentColor",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    PAPER: "var(--paper)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(SERIES, 1)},
}
FONT_SIZE = 12
STYLE = {
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "axes.labelcolor": MUTED,
    "axes.labelsize": FONT_SIZE,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 72,
    "figure.facecolor": "none",
    "font.size": FONT_SIZE,
    "grid.color": LINE,
    "grid.linewidth": 0.75,
    "svg.fonttype": "none",
    "svg.hashsalt": "reports",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": LINE,
    "xtick.labelcolor": MUTED,
    "xtick.labelsize": FONT_SIZE - 1,
    "ytick.color": LINE,
    "ytick.labelcolor": MUTED,
    "ytick.labelsize": FONT_SIZE - 1,
    "ytick.major.size": 0,
}
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
LONGEST_LABEL = 28


@contextmanager
def open_figure(width: float, height: float) -> Iterator[Figure]:
    """Open a figure, its size in SVG units, in the page's style regardless of the user's matplotlibrc."""
    with style(["default", STYLE]):
        yield Figure(figsize=(width / 72, height / 72))


def figure_to_svg(figure: Figure, id_prefix: str, description: str) -> Markup:
    """Return inline SVG with a prefix of its ids and a description for screen readers.

    Call it inside `open_figure`. Equal figures give equal text.
    """
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # The browser has the glyph.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure.savefig(buffer, format="svg", metadata=NO_METADATA)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    view = re.search(r'viewBox="[^"]*"', text)
    assert view is not None
    body = text[text.index(">") + 1 :]
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.DOTALL)
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, count=1, flags=re.DOTALL)
    # Only tags: text comes from the records.
    body = re.sub(r"<[^>]+>", lambda tag: _adapt_svg_tag(tag[0], id_prefix), body)
    body = re.sub(r"\s*\n\s*", "\n", body)
    head = Markup('<svg {} role="img" aria-label="{}">').format(Markup(view[0]), description)  # noqa: S704 - matplotlib's
    return head + Markup(body)  # noqa: S704 - matplotlib has escaped its text


def _adapt_svg_tag(tag: str, id_prefix: str) -> str:
    """Remove a tag's font and a group's id, replace its colours by CSS variables, prefix its ids, round its numbers."""
    tag = re.sub(r'^<g id="[^"]*"', "<g", tag)
    tag = re.sub(r"font-family: [^;\"]*(; )?", "", tag)
    tag = re.sub(r"(\bid=\"|xlink:href=\"#|url\(#)", rf"\g<1>{id_prefix}-", tag)
    tag = tag.replace("xlink:href", "href")
    tag = re.sub(r'(?<=[ ("])-?\d+\.\d{3,}', _round_number, tag)
    return re.sub(r"#[0-9a-f]{6}", lambda colour: CSS.get(colour[0], colour[0]), tag)


def _round_number(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def draw_marks(
    axes: Axes, x: ArrayLike, y: ArrayLike, marker: str, colour: str, size: float
) -> None:
    """Draw marks with an edge in the colour of the page."""
    axes.plot(
        x,
        y,
        marker,
        color=colour,
        markersize=size,
        markeredgecolor=PAPER,
        markeredgewidth=0.75,
    )


def add_axes_with_margins(
    figure: Figure, left: float, right: float, foot: float, top: float
) -> Axes:
    """Add axes with margins in SVG units and horizontal grid lines behind the marks."""
    width, height = (72 * inches for inches in figure.get_size_inches())
    relative_width = 1 - (left + right) / width
    relative_height = 1 - (foot + top) / height
    axes = figure.add_axes((left / width, foot / height, relative_width, relative_height))
    axes.yaxis.grid(visible=True)
    axes.set_axisbelow(True)
    return axes


def fit_chart_label(label: object, max_length: int = LONGEST_LABEL) -> str:
    """Return a label for a chart: one line of printable characters, cut after `max_length`."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(label))
    if len(text) <= max_length:
        return text
    return f"{text[: max_length - 1]}…"


def colour_and_marker(series: int) -> tuple[str, str]:
    """Return the colour and the marker of a series, counted from 0; the first 64 pairs differ."""
    num_rounds, colour = divmod(series, len(SERIES))
    marker = (series + num_rounds) % len(MARKERS)
    return SERIES[colour], MARKERS[marker]
