"""Sections of the page of a comparison: what they are made from, and the blocks that they are made of. No torch here.

`reports` draws the blocks. Every text is escaped, unless it is `markupsafe.Markup`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar

from bench.experiment.settings import strip_bracketed_settings
from bench.interfaces.registry import Named, Registry, import_object
from bench.tables.tables import Cell, Table

if TYPE_CHECKING:
    from markupsafe import Markup

    from bench.experiment.config import Experiment
    from bench.interfaces.throughput import ExperimentThroughput
    from bench.records.record import Record
    from bench.records.record_kind import AnyRecordContent
    from bench.statistics.accuracies import JudgedAccuracyDifference

M = TypeVar("M", bound="AnyRecordContent")
DEFAULT_RESULTS = "results"  # the folder of records that commands name by default


@dataclass(frozen=True, slots=True)
class ComparisonView:
    """What tables and sections of one comparison are made from; its experiments are in the order of the page."""

    name: str
    records: tuple["Record", ...]
    experiments: dict[str, "Experiment"]
    labels: dict[str, str]  # the name of an experiment in sentences and charts
    base: str | None  # the base of ratios
    incomparable: str | None  # the reason why speeds are not comparable
    # Of the timed experiments, in the order of the page.
    throughputs: tuple["ExperimentThroughput", ...]

    @property
    def is_smoke_test(self) -> bool:
        """Whether the comparison checked that all stages run, in place of measuring."""
        return self.name.endswith("-smoke")

    def records_and_contents_of(self, content_class: type[M]) -> list[tuple["Record", M]]:
        """Return the records whose content is of a class, such as `Speed`, each with its content."""
        return [
            (record, record.measured)
            for record in self.records
            if isinstance(record.measured, content_class)
        ]

    def experiments_and_contents_of(self, content_class: type[M]) -> list[tuple["Experiment", M]]:
        """Return the experiment and the content of each record whose content is of a class, such as `Speed`."""
        return [
            (record.experiment, run)
            for record, run in self.records_and_contents_of(content_class)
            if record.experiment is not None
        ]

    def short_label(self, name: str) -> str:
        """Return the short name of an experiment or reference for sentences and charts."""
        return self.labels.get(name, name)

    def name_cell(self, name: str) -> Cell:
        """Return the cell that names a row by its experiment, without settings that its label leaves out."""
        label = self.short_label(name)
        return Cell.naming_row(label, label if label == strip_bracketed_settings(name) else name)


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph; an `under` one is small print, an `empty` one stands in place of what there is not."""

    text: str
    style: Literal["note", "under", "lead", "protocol", "empty"] = "note"


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading inside a section."""

    text: str
    level: Literal[3, 4] = 3


@dataclass(frozen=True, slots=True)
class WarningBox:
    """A marked sentence, with a list of details beneath."""

    text: str
    details: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ChartGlyphMeaning:
    """The meaning of a glyph in a chart, in the colour of a series from 1 to 8; 0 is that of the text."""

    text: str
    series: int = 0


@dataclass(frozen=True, slots=True)
class Chart:
    """An SVG with its caption."""

    svg: "Markup"
    title: str
    notes: Sequence[str] = ()
    keys: Sequence[ChartGlyphMeaning] = ()
    width: Literal["", "narrow"] = ""


@dataclass(frozen=True, slots=True)
class EmbeddedPicture:
    """A small image that the page embeds, with the texts beneath it; without a file its flaw is shown in its place."""

    name: str
    webp: bytes
    texts: Sequence[str] = ()
    note: str = ""
    flaw: str = ""


@dataclass(frozen=True, slots=True)
class PictureRow:
    """Small images beside each other."""

    pictures: Sequence[EmbeddedPicture]


@dataclass(frozen=True, slots=True)
class DefinitionList:
    """Terms with their values, or words with their meaning."""

    text_by_term: Mapping[str, str]
    style: Literal["facts", "glossary"] = "facts"


@dataclass(frozen=True, slots=True)
class BlockGroup:
    """Blocks beside each other: a `pair`, `panels` of equal size, or a narrow one `first`; else beneath each other."""

    blocks: "Sequence[Block]"
    style: Literal["", "pair", "panels", "first"] = ""


@dataclass(frozen=True, slots=True)
class FoldOutBlock:
    """Blocks that fold out: the figures `behind` a chart, or a `task`, whose summary is a heading."""

    summary: str
    blocks: "Sequence[Block]"
    style: Literal["", "behind", "task"] = ""
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class EmbeddedFile:
    """A file that the page embeds; the section on data lists it."""

    name: str
    description: str
    content: bytes


@dataclass(frozen=True, slots=True)
class EmbeddedFileList:
    """A list of embedded files; names of saved files begin with `prefix`."""

    files: Sequence[EmbeddedFile]
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class PageQuestion:
    """The question that the section answers, as the heading of the page, above the answer; the table is left out."""

    text: str


Block = (
    Paragraph
    | Heading
    | WarningBox
    | Table
    | Chart
    | PictureRow
    | DefinitionList
    | BlockGroup
    | FoldOutBlock
    | EmbeddedFile
    | EmbeddedFileList
    | PageQuestion
)


@dataclass(frozen=True, slots=True)
class IncomparableResults:
    """Results of the folder that cannot be compared with those of the page."""

    comparisons: Sequence[str]  # their names, the newest first
    records: Sequence["Record"]
    reason: str  # why they are apart


@dataclass(frozen=True, slots=True, kw_only=True)
class PageContext:
    """What a section is built from."""

    comparison: ComparisonView
    records: Sequence["Record"]  # all of the page
    # Of accuracies from the base, by experiment and budget.
    differences: Mapping[tuple[str, str], "JudgedAccuracyDifference"] = field(default_factory=dict)
    # Names of the comparisons in the sections, the newest first.
    joined_comparisons: Sequence[str] = ()
    results: str = DEFAULT_RESULTS  # the folder of the records, as commands name it
    incomparable_results: Sequence[IncomparableResults] = ()
    folder_records: Sequence["Record"] = ()  # all of the folder, also those of other comparisons
    built: Sequence[Block] = ()  # blocks above the section on the page


@dataclass(frozen=True)
class PageSection(Named):
    """A section of the page of a comparison."""

    name: str  # its anchor
    title: str
    label: str  # in the navigation
    # Returns None where the page has no such section. A place "package.module:function" is imported when it is needed.
    build: Callable[[PageContext], Sequence[Block] | None] | str
    # Where its blocks stand: above this program's results, below them, or without a heading in the answer of the page.
    place: Literal["above", "below", "answer"] = "below"

    def build_blocks(self, page: PageContext) -> Sequence[Block] | None:
        """Return the blocks; None where the page has no such section."""
        build = import_object(self.build) if isinstance(self.build, str) else self.build
        return build(page)


SECTIONS = Registry[PageSection]("section", PageSection)  # of extensions


def iterate_nested_blocks(blocks: Sequence[Block]) -> Iterator[Block]:
    """Yield blocks, each followed by the blocks inside it."""
    for block in blocks:
        yield block
        if isinstance(block, BlockGroup | FoldOutBlock):
            yield from iterate_nested_blocks(block.blocks)
