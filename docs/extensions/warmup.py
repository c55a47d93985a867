"""A section on how long each experiment warms up before it is timed."""

from statistics import median

from bench.interfaces.extensions import Extension
from bench.interfaces.sections import Chart, EmbeddedFile, PageSection, Paragraph
from bench.records.record import Speed
from bench.tables.formats import format_rate
from bench.tables.tables import Cell, Column, Table


def build_warmup_section(page):
    from reports.render.document import encode_csv

    seconds = {}
    for experiment, speed in page.comparison.experiments_and_contents_of(Speed):
        seconds.setdefault(page.comparison.short_label(experiment.name), []).append(
            speed.warmup_seconds
        )
    if not seconds:
        return None  # the page has no such section
    columns = [
        Column.left_aligned("experiment"),
        Column("warm-up", "s, median of runs"),
        Column("runs"),
    ]
    rows = [
        [Cell.of(name), Cell.of(median(runs), format_rate), Cell.of(len(runs))]
        for name, runs in seconds.items()
    ]
    table = Table.of_rows("Warm-up of each experiment", columns, rows)
    return [
        Paragraph("Warm-up includes compilation, and is not part of any window."),
        Chart(draw_warmup_chart(seconds), "Warm-up", ["Dots are runs."], width="narrow"),
        table,
        EmbeddedFile("warmup.csv", "the warm-up of each experiment", encode_csv(table.rows)),
    ]


def draw_warmup_chart(seconds):
    # Imported here, because matplotlib would slow down every command.
    from reports.render.svg import SERIES, figure_to_svg
    from reports.speed.charts import open_row_chart, write_row_label

    with open_row_chart(len(seconds)) as (figure, axes):
        for row, (name, runs) in enumerate(seconds.items()):
            axes.plot(runs, [row] * len(runs), "o", color=SERIES[row % len(SERIES)])
            write_row_label(axes, row, name, f"{format_rate(median(runs))} s")
        axes.set_xlim(left=0)
        axes.set_xlabel("seconds")
        return figure_to_svg(figure, "warmup", "Seconds of warm-up of each run.")


EXTENSION = Extension(
    sections=[
        PageSection(name="warmup", title="Warm-up", label="Warm-up", build=build_warmup_section)
    ]
)
