"""The summary of data as an HTML page. Equal summaries give equal bytes."""

import textwrap

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bench.data.text_tables import UTF8_REMEDY
from bench.features.data_summary.summary import DataSummary, ShownSample
from bench.features.data_summary.tables import CONTEXT, quantiles, summary_tables
from bench.interfaces.sections import Block, Chart, Facts, Group, Picture, Pictures, Text, Warn
from bench.tables.formats import format_quantity, format_short, pluralize
from bench.tables.tables import Table
from reports.render.document import BuiltSection, render_blocks, render_page
from reports.render.svg import MUTED, PAPER, SERIES, drawing, margin_axes, svg

WIDTH = 440  # points
HEIGHT = 220
NUM_BARS = 32
MAX_SHOWN_CHARACTERS = 240  # of a caption beneath an image
SHOWN_NOTE = (
    f"Samples drawn at random, the same for the same data and --seed; captions are cut after {MAX_SHOWN_CHARACTERS} "
    "characters."
)


def summary_page(summary: DataSummary) -> str:
    """Return the page."""
    sections = []
    for number, table in enumerate(summary_tables(summary)):
        blocks = _table_blocks(table) if table.cells else [Text("None.", "empty")]
        sections.append(
            BuiltSection(f"table-{number}", table.title, table.title, render_blocks(blocks))
        )
    shown = render_blocks([Text(SHOWN_NOTE, "under"), Pictures([*map(_picture, summary.shown)])])
    sections.append(BuiltSection("samples", "A look at the samples", "Samples", shown))
    return render_page(
        f"Data: {summary.data}",
        f"What is in {summary.data}?",
        eyebrow=f"Data · {summary.source}",
        facts=[
            pluralize(summary.num_samples, "sample"),
            format_quantity(summary.image_bytes, "B") + " of images",
            pluralize(len(summary.usable_images), "image") + " decoded",
        ],
        answer=[
            Text(_lead_sentence(summary), "lead"),
            *map(
                Warn, [*summary.refusals, *(note for note in summary.notes if UTF8_REMEDY in note)]
            ),
            Group(_charts(summary), "pair"),
        ],
        sections=sections,
    )


def _lead_sentence(summary: DataSummary) -> Markup:
    """Say how many samples there are, and the size of the median image and caption."""
    num_flawed = summary.flaws.total()
    sentences = []
    if num_flawed:
        sentences.append(
            f"{num_flawed:,} of {len(summary.images):,} sampled images cannot be decoded."
        )
    if summary.usable_images:
        width = quantiles([image.width for image in summary.usable_images])[2]
        height = quantiles([image.height for image in summary.usable_images])[2]
        sentences.append(f"The median image has {width:,} x {height:,} px.")
    if summary.captions[0].texts:
        sentences.append(
            f"The median caption has {quantiles(summary.captions[0].tokens)[2]:,} tokens."
        )
    counted = f"{summary.num_samples:,} of {pluralize(summary.total, 'sample')} can be read."
    return Markup("<strong>{}</strong> {}").format(counted, " ".join(sentences))


def _charts(summary: DataSummary) -> list[Block]:
    charts: list[Block] = []
    if summary.usable_images:
        sides = np.array([min(image.width, image.height) for image in summary.usable_images])
        drawn = _histogram("sizes", sides, None, "shorter side in pixels", "images")
        charts.append(
            Chart(
                drawn, "Shorter side of the images", ["Images of the sample by their shorter side."]
            )
        )
    for number, captions in enumerate(summary.captions):
        if captions.texts:
            drawn = _histogram(
                f"lengths-{number}", captions.tokens, CONTEXT, "tokens per caption", "captions"
            )
            note = f"Captions by their tokens. The line is {CONTEXT}, after which CLIP cuts them."
            charts.append(Chart(drawn, f"Length of the captions: {captions.field}", [note]))
    return charts


def _histogram(
    name: str, values: npt.NDArray[np.int64], marked: int | None, axis: str, noun: str
) -> Markup:
    """Draw the number of values in bars of equal width, with a line at a marked value."""
    with drawing(WIDTH, HEIGHT) as figure:
        axes = margin_axes(figure, 44, 8, 44, 12)
        bins = np.unique(np.linspace(values.min(), values.max() + 1, NUM_BARS).round()).tolist()
        axes.hist(values, bins, color=SERIES[0], edgecolor=PAPER)
        if marked is not None:
            axes.axvline(marked, color=MUTED, linewidth=1.5, linestyle=(0, (4, 3)))
        axes.set_xlabel(axis)
        axes.set_ylabel(noun)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_short(value)))
        return svg(
            figure, name, f"Histogram: {noun} by {axis}; the median is {np.median(values):,.0f}."
        )


def _picture(sample: ShownSample) -> Picture:
    image = sample.image
    captions = [
        textwrap.shorten(text, MAX_SHOWN_CHARACTERS, placeholder="…") for text in sample.captions
    ]
    if image.flaw:
        return Picture(sample.key, b"", captions, image.kind, f"cannot be decoded: {image.flaw}")
    return Picture(sample.key, image.thumbnail, captions, f"{image.width} x {image.height}")


def _table_blocks(table: Table) -> list[Block]:
    """Return a transposed table of one row as names and values, which a phone can show; another one as it is."""
    if not table.is_transposed or len(table.cells) > 1:
        return [table]
    pairs = zip(table.columns, table.cells[0], strict=True)
    facts = Facts({column.title: [cell.why or cell.text_with_note] for column, cell in pairs})
    return [facts, *(Text(line, "under") for line in table.note.splitlines())]
