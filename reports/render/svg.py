"""A matplotlib figure -> SVG that lives in the page: its text, colours and themes come from the page's style sheet."""

import io
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from markupsafe import Markup, escape
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.style import context as style

# Stand-ins that matplotlib draws with; the page says what they mean, in light and in dark.
INK, MUTED, LINE, PAPER = "#a1b2c0", "#a1b2c1", "#a1b2c2", "#a1b2c3"
SERIES = tuple(f"#a1b20{number}" for number in range(1, 9))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")  # colour never tells alone
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
    "axes.unicode_minus": True,
    "figure.dpi": 72,
    "figure.facecolor": "none",
    "font.size": FONT_SIZE,
    "grid.color": LINE,
    "grid.linewidth": 0.75,
    "savefig.facecolor": "none",
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
MANY = 8  # tags of a style, from which on it has a name
HOVERED = "hover-"  # before the words, in an artist's id


@contextmanager
def drawing(width: float, height: float) -> Iterator[Figure]:
    """Open a figure of so many SVG units, in the page's style whatever the user's matplotlibrc says."""
    with style(["default", STYLE]):
        yield Figure(figsize=(width / 72, height / 72))


def svg(figure: Figure, name: str, label: str) -> Markup:
    """Return inline SVG; `name` keeps its ids apart from other charts', `label` is what is heard instead of it.

    Call it inside `drawing`. The same figure gives the same text.
    """
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # the browser has the glyph
        figure.savefig(buffer, format="svg", metadata=NO_METADATA)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    view = re.search(r'viewBox="[^"]*"', text)
    assert view is not None
    body = text[text.index(">") + 1 :]
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.DOTALL)
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, count=1, flags=re.DOTALL)
    body = re.sub(r"<[^>]+>", lambda tag: _restyled(tag[0], name), body)  # tags alone: text is the records'
    body = re.sub(r'<path d="[^"]*"( clip-path="[^"]*")? style="fill: none"/>', "", body)  # draws nothing
    body = re.sub(r"\s*\n\s*", "\n", body)
    body = re.sub(r"<g>\s*</g>\n?", "", body)
    body = _with_classes(body)
    head = Markup('<svg {} role="img" aria-label="{}">').format(Markup(view[0]), label)  # noqa: S704 - matplotlib's
    return head + Markup(body)  # noqa: S704 - matplotlib has escaped its text


def _with_classes(body: str) -> str:
    """Give styles that many tags have a name: dots of runs and seeds are most of a chart."""
    many = Counter(re.findall(r'<use [^>]* style="([^"]*)"/>', body))
    named = {rule: f"s{zlib.crc32(rule.encode()):x}" for rule, tags in many.items() if tags > MANY}
    for rule, name in named.items():
        body = body.replace(f'style="{rule}"/>', f'class="{name}"/>')
    rules = "".join(f".{name}{{{rule}}}" for rule, name in named.items())
    return f"<style>{rules}</style>{body}" if rules else body


def hovered(artist: Artist, text: str) -> None:
    """Give an artist the words that are shown where it is pointed at."""
    artist.set_gid(f"{HOVERED}{text.encode().hex()}")  # a name that no drawing can break out of


def _restyled(tag: str, name: str) -> str:
    """Hand a tag's font and colours to the style sheet, make its ids the chart's own, its numbers no longer than seen.

    Groups need no ids. What is pointed at is a group with a title.
    """
    if group := re.match(rf'<g id="({HOVERED})?([^"]*)"', tag):
        rest = tag[group.end() :]
        if rest.endswith("/>"):
            return ""
        if group[1] is None:
            return f"<g{rest}"
        return f'<g class="mark"{rest}<title>{escape(bytes.fromhex(group[2]).decode())}</title>'
    tag = re.sub(r"font-family: [^;\"]*(; )?", "", tag)
    tag = re.sub(r' transform="rotate\(-0 [^"]*"', "", tag)
    tag = re.sub(r"(\bid=\"|xlink:href=\"#|url\(#)", rf"\g<1>{name}-", tag).replace("xlink:href", "href")
    tag = re.sub(r'(?<=[ ("])-?\d+\.\d{3,}', lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), tag)
    return re.sub(r"#[0-9a-f]{6}", lambda found: CSS.get(found[0], found[0]), tag)


def shown(label: object, longest: int = LONGEST_LABEL) -> str:
    """Return a label fit for a chart: one line of printable characters, cut where it is too long."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(label))
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def look(index: int) -> tuple[str, str]:
    """Return the colour and the marker of a series; only from the 65th on does a pair return."""
    return SERIES[index % len(SERIES)], MARKERS[(index + index // len(SERIES)) % len(MARKERS)]


def swatch(index: int) -> Markup:
    """Return a series' marker as it stands in the charts, for a legend."""
    with drawing(16, 16) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        colour, marker = look(index)
        axes.plot([0], [0], marker, color=colour, markersize=9)
        drawn = svg(figure, f"swatch-{index}", "")
    text = str(drawn).replace('role="img" aria-label=""', 'class="swatch" aria-hidden="true"')
    return Markup(text)  # noqa: S704 - what was drawn


def dodged(wanted: list[float], gap: float, low: float, high: float) -> list[float]:
    """Move label positions apart until none is nearer than `gap` to the next, inside [low, high], order kept."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    gap = min(gap, (high - low) / max(len(wanted) - 1, 1))
    placed = [min(max(wanted[index], low), high) for index in order]
    for at in range(1, len(placed)):
        placed[at] = max(placed[at], placed[at - 1] + gap)
    top = high
    for at in range(len(placed) - 1, -1, -1):
        placed[at] = min(placed[at], top)
        top = placed[at] - gap
    found = [0.0] * len(wanted)
    for index, place in zip(order, placed, strict=True):
        found[index] = place
    return found
