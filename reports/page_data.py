"""The sections on the page itself: what was not measured, its files, and its words."""

import shlex
from collections.abc import Sequence
from itertools import chain

import msgspec
from markupsafe import Markup

from bench.interfaces.sections import (
    Block,
    Download,
    Facts,
    Files,
    Heading,
    ItemList,
    PageContext,
    Section,
    Text,
    flatten,
)
from bench.measure.tables import sample_table
from bench.records.record import Memory, Speed, Training, Transfer
from bench.records.record_kind import RecordContent
from bench.tables.formats import join_words
from bench.tables.tables import NOT_MEASURED, Cell, Column, Table

KINDS: dict[str, type[RecordContent]] = {
    "speed": Speed,
    "memory": Memory,
    "training losses": Training,
    "transfer accuracy": Transfer,
}
MOST_NAMED = 6  # rows of which one figure was not measured
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
    "budget": "the quantity that is equal for compared towers: images seen, or seconds on the device",
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


def _build_unmeasured(page: PageContext) -> Sequence[Block]:
    table = _unmeasured_table(page)
    return (
        [table, Text(UNMEASURED_NOTE, "under")]
        if table.cells
        else [Text("Everything was measured.", "empty")]
    )


def _build_data(page: PageContext) -> Sequence[Block]:
    files = [block for block in flatten(page.built) if isinstance(block, Download)]
    records = Download(
        "records.json", "all records, with every step", msgspec.json.encode(page.records)
    )
    blocks: list[Block] = [Files([*files, records], f"{page.comparison.name}-")]
    if (samples := sample_table(page.comparison.records, page.comparison.label)).cells:
        blocks += [Heading(samples.title), samples]
    if len(page.joined) > 1:
        blocks += [Heading("Comparisons on this page"), ItemList(page.joined, "others")]
    if page.others:
        others = [f"{name}: {reason}" if reason else name for name, reason in page.others.items()]
        command = Markup(
            "Show one with <code>catlip-bench report build {} --comparison NAME</code>."
        )
        command = command.format(shlex.quote(page.results))
        blocks += [
            Heading("Other comparisons in the same folder"),
            Text(command, "under"),
            ItemList(others, "others"),
        ]
    return blocks


def _build_glossary(_: PageContext) -> Sequence[Block]:
    return [Facts({word: [meaning] for word, meaning in GLOSSARY.items()}, "glossary")]


UNMEASURED = Section("unmeasured", "Not measured, and why", "Not measured", _build_unmeasured)
DATA = Section("data", "Data", "Data", _build_data)
WORDS = Section("words", "Glossary", "Glossary", _build_glossary)


def _unmeasured_table(page: PageContext) -> Table:
    """List each figure that was not measured, with its rows and the reason."""
    comparison = page.comparison
    absent = [kind for kind, measured in KINDS.items() if not comparison.of(measured)]
    names: dict[tuple[str, str], dict[str, None]] = {  # of rows, by figure and reason
        (kind, "this comparison has no run of this kind"): {"all": None} for kind in absent
    }
    tables = [block for block in flatten(page.built) if isinstance(block, Table)]
    rows_with_columns = chain.from_iterable(
        ((table.columns, row) for row in table.cells) for table in tables
    )
    for columns, row in rows_with_columns:
        for column, cell in zip(columns, row, strict=False):
            if cell.why.startswith(NOT_MEASURED):
                names.setdefault((column.title, cell.why.removeprefix(NOT_MEASURED)), {})[
                    row[0].text
                ] = None
    for experiment, speed in comparison.runs(Speed):
        for reading, reason in speed.not_measured.items():
            names.setdefault((reading, reason), {})[comparison.label(experiment.name)] = None
    figures: dict[tuple[str, str], dict[str, None]] = {}  # by rows and reason
    for (figure, reason), found in names.items():
        more = len(found) - MOST_NAMED
        of = (
            join_words([*found])
            if more <= 0
            else f"{', '.join([*found][:MOST_NAMED])} and {more} more"
        )
        figures.setdefault((of, reason), {})[figure] = None
    rows = [
        [Cell(join_words([*found])), Cell.of(of), Cell.of(reason)]
        for (of, reason), found in figures.items()
    ]
    return Table.of_rows("Not measured, and why", Column.texts("figures", "of", "reason"), rows)
