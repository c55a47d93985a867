"""The summary of data as an HTML page. Equal summaries give equal bytes."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from bench.data.captions.batches import UTF8_REMEDY
from bench.features.data_summary.captions import FieldCaptionFacts
from bench.features.data_summary.images import SampledImage
from bench.features.data_summary.summary import LOADED, DataSummary, ShownSample
from bench.features.data_summary.tables import (
    caption_table,
    format_table,
    loading_table,
    next_commands,
    quantiles,
    script_table,
    size_table,
    source_table,
    unusable_table,
)
from bench.interfaces.sections import Block, Chart, Code, Facts, Group, Picture, Pictures, Text, Warn
from bench.tables.formats import format_quantity, format_short, pluralize
from bench.tables.tables import Table
from reports.render.document import BuiltSection, render_blocks, render_page
from reports.render.svg import MUTED, PAPER, SERIES, add_tooltip, drawing, margin_axes, svg

WIDTH, HEIGHT = 440, 220  # SVG units
MAX_BARS = 32
MIN_SIZE_TICKS, MAX_SIZE_TICKS = 3, 7
MAX_SHOWN_CHARACTERS = 240  # of a caption beneath an image
SHOWN_NOTE = "drawn at random, the same for the same data and --seed; captions are cut after {} characters"


def summary_page(summary: DataSummary) -> str:
    """Return the page."""
    sections: dict[tuple[str, str], list[Block]] = {
        ("data", "Data"): _row_as_facts(source_table(summary)),
        ("images", "Images"): [size_table(summary), format_table(summary)],
        ("captions", "Captions"): [*_row_as_facts(caption_table(summary)), script_table(summary)],
        ("unusable", "Samples that cannot be used"): [
            unusable if (unusable := unusable_table(summary)).cells else Text("All samples can be used.", "empty")
        ],
        ("loading", "Loading"): [loading_table(summary)],
        ("samples", "A look at the samples"): [_shown_note(summary), Pictures([*map(_picture, summary.shown)])],
        ("commands", "Next commands"): [Code(next_commands(summary))],
    }
    return render_page(
        f"Data: {summary.data}",
        f"What is in {summary.data}?",
        eyebrow=f"Data · {summary.source}",
        facts=[
            pluralize(summary.samples, "sample"),
            format_quantity(summary.image_bytes, "B") + " of images",
            pluralize(len(summary.usable_images), "image") + " decoded",
        ],
        answer=_answer(summary),
        sections=[
            BuiltSection(name, title, title, render_blocks(blocks)) for (name, title), blocks in sections.items()
        ],
    )


def _answer(summary: DataSummary) -> list[Block]:
    side, context = summary.experiment.image.image_size, summary.experiment.text.context_length
    charts = list[Block]()
    if images := summary.usable_images:
        note = f"Images of the sample by their shorter side. The line is {side} px, which {LOADED} reads."
        charts.append(Chart(size_chart(images, side), "Shorter side of the images", [note]))
    for number, captions in enumerate(summary.captions):
        if captions.num_captions:
            note = f"Captions by their tokens. The line is {context}, after which {LOADED} cuts them."
            field = f": {captions.field}" if len(summary.captions) > 1 else ""
            chart = length_chart(f"lengths-{number}", captions, context)
            charts.append(Chart(chart, f"Length of the captions{field}", [note]))
    return [
        Text(Markup("<strong>{}</strong> {}").format(*_lead(summary)), "lead"),
        *map(Warn, [*summary.refusals, *(note for note in summary.notes if UTF8_REMEDY in note)]),
        Group(charts, "pair"),
    ]


def _lead(summary: DataSummary) -> tuple[str, str]:
    """Say how many samples there are, and what the median image and caption are."""
    is_exact, broken = len(summary.images) == summary.samples, summary.flaws.total()
    usable = summary.samples - broken if is_exact else summary.samples
    counted = f"{usable:,} of {pluralize(summary.total, 'sample')} can be used."
    found = list[str]()
    if broken and not is_exact:
        found.append(f"{broken:,} of {len(summary.images):,} sampled images cannot be decoded")
    if images := summary.usable_images:
        width, height = (
            quantiles(sides)[2] for sides in zip(*((one.width, one.height) for one in images), strict=True)
        )
        found.append(f"the median image has {width:,} x {height:,} px")
    if (captions := summary.captions[0]).num_captions:
        found.append(f"the median caption has {quantiles(captions.lengths)[2]:,} tokens")
    return counted, f"{', '.join(found)}.".capitalize() if found else ""


def _shown_note(summary: DataSummary) -> Text:
    shown = pluralize(len(summary.shown), "sample")
    return Text(f"{shown}, {SHOWN_NOTE.format(MAX_SHOWN_CHARACTERS)}.", "under")


def _picture(sample: ShownSample) -> Picture:
    image = sample.image
    cut = [text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}…" for text in sample.captions]
    if image.flaw:
        return Picture(sample.key, b"", cut, image.kind, f"cannot be decoded: {image.flaw}")
    return Picture(sample.key, image.thumbnail, cut, f"{image.width} x {image.height}")


def _row_as_facts(table: Table) -> list[Block]:
    """Return a table of one row as names and values, which a phone can show; another one as it is."""
    if len(table.cells) > 1:
        return [table]
    pairs = zip(table.columns, table.cells[0], strict=True)
    facts = Facts({column.title: [cell.why or cell.text_with_note] for column, cell in pairs})
    return [facts, *(Text(line, "under") for line in table.note.splitlines())]


def size_chart(images: Sequence[SampledImage], side: int) -> Markup:
    """Draw how many images have which shorter side, on a logarithmic axis, with a line at a side."""
    sides = np.array([min(one.width, one.height) for one in images])
    low, high = int(min(sides.min(), side)), int(max(sides.max(), side))
    bars = max(1, min(MAX_BARS, high - low))
    edges = np.unique(np.geomspace(low, high + 1, bars + 1).round())
    return _histogram("sizes", sides, edges, side, "shorter side in pixels", "images", _scale_log)


def length_chart(name: str, captions: FieldCaptionFacts, context: int) -> Markup:
    """Draw how many captions have which number of tokens, with a line at the context; the last bar has all longer."""
    lengths, last = captions.lengths, max(context + 3, int(np.quantile(captions.lengths, 0.995)))
    step = math.ceil(last / MAX_BARS / 2)
    edges = np.arange(0.0, last + step + 1, step)
    clipped = np.minimum(lengths, int(edges[-1]) - 1)
    return _histogram(name, clipped, edges, context, "tokens per caption", "captions", lambda _axes, _edges: None)


def _histogram(
    name: str,
    values: npt.NDArray[np.int64],
    edges: npt.NDArray[np.float64],
    marked: int,
    axis: str,
    noun: str,
    scale: Callable[[Axes, npt.NDArray[np.float64]], None],
) -> Markup:
    counts, _ = np.histogram(values, edges)
    with drawing(WIDTH, HEIGHT) as figure:
        axes = margin_axes(figure, 44, 8, 44, 12)
        scale(axes, edges)
        bars = axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=SERIES[0], edgecolor=PAPER)
        for bar, number, first, end in zip(bars, counts.tolist(), edges[:-1], edges[1:], strict=True):
            last = f" to {end - 1:,.0f}" if end - 1 > first else ""
            add_tooltip(bar, f"{first:,.0f}{last}: {pluralize(number, noun.removesuffix('s'))}")
        axes.set_xlim(edges[0], edges[-1])
        axes.axvline(marked, color=MUTED, linewidth=1.5, linestyle=(0, (4, 3)))
        axes.set_xlabel(axis)
        axes.set_ylabel(noun)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_short(value)))
        return svg(figure, name, f"Histogram: {noun} by {axis}; the median is {np.median(values):,.0f}.")


def _scale_log(axes: Axes, edges: npt.NDArray[np.float64]) -> None:
    """Scale the x axis by powers of two, with few ticks."""
    axes.set_xscale("log", base=2)
    powers = [2**power for power in range(31) if edges[0] <= 2**power <= edges[-1]]
    if len(powers) < MIN_SIZE_TICKS:
        powers = [
            side for power in range(31) for side in (2**power, 3 * 2**power // 2) if edges[0] <= side <= edges[-1]
        ]
    ticks = powers[:: math.ceil(len(powers) / MAX_SIZE_TICKS) or 1]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
