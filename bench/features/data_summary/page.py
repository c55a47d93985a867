"""The summary of data as an HTML page. Equal summaries give equal bytes."""

from markupsafe import Markup

from bench.features.data_summary.summary import MAX_SHOWN_CHARACTERS, DataSummary
from bench.features.data_summary.tables import summary_tables
from bench.interfaces.sections import Block, Paragraph, PictureRow
from bench.tables.formats import format_count_with_noun
from reports.render.document import BuiltSection, render_blocks, render_page

LEAD = Markup(
    "<strong>{usable:,} of {total} can be read.</strong> {flawed:,} of {images} cannot be decoded."
)
SHOWN_NOTE = (
    f"Samples drawn at random, the same for the same data and --seed; captions are cut after {MAX_SHOWN_CHARACTERS} "
    "characters."
)


def render_summary_html(summary: DataSummary) -> str:
    """Return the HTML of the page: a sentence, the tables, and the sampled images with their captions."""
    lead = LEAD.format(
        usable=summary.num_samples,
        total=format_count_with_noun(summary.total, "sample"),
        flawed=summary.flaw_counts.total(),
        images=format_count_with_noun(len(summary.images), "sampled image"),
    )
    sections = []
    for number, table in enumerate(summary_tables(summary)):
        if table.all_rows:
            content = render_blocks([table])
            sections.append(BuiltSection(f"table-{number}", table.title, table.title, content))
    shown: list[Block] = [Paragraph(SHOWN_NOTE, "under"), PictureRow(summary.pictures)]
    sections.append(
        BuiltSection("samples", "A look at the samples", "Samples", render_blocks(shown))
    )
    return render_page(
        f"Data: {summary.data}",
        f"What is in {summary.data}?",
        eyebrow=f"Data · {summary.source}",
        answer=[Paragraph(lead, "lead")],
        sections=sections,
    )
