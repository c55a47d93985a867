"""The sections on the page itself: what was not measured, its files, and its words."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import msgspec

from bench.interfaces.sections import (
    Block,
    DefinitionList,
    EmbeddedFile,
    EmbeddedFileList,
    Heading,
    PageContext,
    PageSection,
    Paragraph,
    iterate_nested_blocks,
)
from bench.measure.tables import sample_flaw_table
from bench.records.record import Memory, Speed, Training, TransferScores
from bench.records.record_kind import AnyRecordContent
from bench.tables.formats import join_with_and
from bench.tables.tables import Cell, Column, Table
from bench.transfer.pareto import make_time_and_energy_cost_axes

KINDS: dict[str, type[AnyRecordContent]] = {
    "speed": Speed,
    "memory": Memory,
    "training losses": Training,
    "transfer accuracy": TransferScores,
}
UNMEASURED_NOTE = (
    "An en dash in a table is one of these, or a figure that cannot exist; its tooltip gives the reason. It is never "
    "zero."
)
GLOSSARY: dict[str, str] = {
    "method": "a way to pre-train the tower: the model around it, its targets, and its loss",
    "tower": "the image encoder, equal for all methods of a comparison and scored without projection or head",
    "text tower": "the encoder of captions; only contrastive methods have one",
    "experiment": "all settings that can change a figure, under one name",
    "run": "one process that runs one experiment; the unit of repetition of speeds",
    "window": "one timed sample of a run; the figure of a run is the mean over windows that other work did not disturb",
    "round": "one run of every experiment, each in a fresh process, in rotating order; on a CPU interleaved by window",
    "comparison": "runs started together, of experiments that differ only in named fields",
    "record": "the document of a run; all figures of this page come from records",
    "seed": "the state of the random generator of a training; the unit of repetition of accuracies",
    "budget": "what is equal for compared towers: images seen, or the seconds on the device that the slowest needs for "
    "these images",
    "device seconds": "images seen divided by the experiment's measured images per second",
    "random-init baseline": "the same tower with random weights, without any training",
    "linear probe": "logistic regression on the tower's frozen features",
    "k-NN": "a vote of the nearest training images in the tower's frozen features",
    "retrieval": "R@1: how often a gallery's nearest image, in the tower's frozen features, is of the query's class",
    "few-shot": "a linear probe on few labelled images per class, over several draws of them",
    "label fractions": "a linear probe on a share of the labelled images, over several draws of them",
    "copied rows": "a new head initialised with the classifier's rows of the labels nearest to its classes",
    "Pareto front": "the towers that no other tower exceeds in accuracy at an equal or lower cost",
    "MFU": "model FLOPs utilisation: 3 x forward FLOPs per image x images per second, over the device's peak",
    "interval": "95 %: Student's t for runs, seeds and draws, Wilson's for a share of test images",
}


def _build_unmeasured_blocks(page: PageContext) -> Sequence[Block]:
    table = _unmeasured_table(page)
    if not table.all_rows:
        return [Paragraph("Everything was measured.", "empty")]
    return [table, Paragraph(UNMEASURED_NOTE, "under")]


def _build_download_blocks(page: PageContext) -> Sequence[Block]:
    """Return the files to download, the skipped samples, and the comparisons of the page."""
    files = [
        block for block in iterate_nested_blocks(page.built) if isinstance(block, EmbeddedFile)
    ]
    records = msgspec.json.encode(page.records)
    files.append(EmbeddedFile("records.json", "all records, with every step", records))
    blocks: list[Block] = [EmbeddedFileList(files, f"{page.comparison.name}-")]
    samples = sample_flaw_table(page.comparison.records, page.comparison.short_label)
    if samples.all_rows:
        blocks += [Heading(samples.title), samples]
    if len(page.joined_comparisons) > 1:
        blocks += [
            Heading("Comparisons on this page"),
            Paragraph(", ".join(page.joined_comparisons)),
        ]
    return blocks


def _build_glossary_blocks(_: PageContext) -> Sequence[Block]:
    return [DefinitionList(GLOSSARY, "glossary")]


UNMEASURED = PageSection(
    "unmeasured", "Not measured, and why", "Not measured", _build_unmeasured_blocks
)
DATA = PageSection("data", "Data", "Data", _build_download_blocks)
WORDS = PageSection("words", "Glossary", "Glossary", _build_glossary_blocks)


def _unmeasured_table(page: PageContext) -> Table:
    """List each figure that was not measured, with its rows and the reason."""
    comparison = page.comparison
    names_by_figure_and_reason: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for kind, measured in KINDS.items():
        if not comparison.records_and_contents_of(measured):
            reason = "this comparison has no run of this kind"
            names_by_figure_and_reason[kind, reason]["all"] = None
    for figure, row, reason in _list_unmeasured_values(page):
        names_by_figure_and_reason[figure, reason][row] = None
    rows = []
    for (figure, reason), names in names_by_figure_and_reason.items():
        texts = (figure, join_with_and(list(names)), reason)
        rows.append([Cell.of(text) for text in texts])
    return Table.of_rows(
        "Not measured, and why", Column.all_left_aligned("figure", "of", "reason"), rows
    )


def _list_unmeasured_values(page: PageContext) -> Iterator[tuple[str, str, str]]:
    """Yield (figure, row, reason) of what was not measured: cells of the page's tables, and readings of timed runs."""
    for table in iterate_nested_blocks(page.built):
        if isinstance(table, Table):
            for row in table.all_rows:
                for column, cell in zip(table.columns, row, strict=False):
                    if cell.is_unmeasured:
                        yield column.title, row[0].text, cell.why
    for experiment, speed in page.comparison.experiments_and_contents_of(Speed):
        label = page.comparison.short_label(experiment.name)
        for reading, reason in speed.not_measured.items():
            yield reading, label, reason
    _, energy = make_time_and_energy_cost_axes(page.comparison)
    if not energy.cost_per_image:
        yield "energy", "all", "no power was read in all runs of an experiment"
