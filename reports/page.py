"""Records -> one HTML document. A pure function: equal records give equal bytes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from markupsafe import Markup

from bench.console.console import format_error_on_one_line
from bench.interfaces.sections import (
    DEFAULT_RESULTS,
    SECTIONS,
    Block,
    IncomparableResults,
    PageContext,
    PageQuestion,
    PageSection,
    iterate_nested_blocks,
)
from bench.measure.comparison_records import select_comparison_records
from bench.records.record import Record
from bench.transfer.subject_scores import collect_full_label_scores
from reports import circumstances, other_results, page_data
from reports.accuracy import accuracy_section, losses_section
from reports.accuracy.ranking import judge_first_task_differences
from reports.answer import answer_blocks, answer_sentences, speed_and_accuracy_table
from reports.render.document import BuiltSection, render_blocks, render_page
from reports.speed import throughput_section

# Sections in the order of the page. Sections of extensions are above the results, or between results and background.
RESULTS = (
    throughput_section.SECTION,
    throughput_section.EXTENSION_MEASUREMENTS,
    accuracy_section.SECTION,
    losses_section.SECTION,
)
BACKGROUND = (
    circumstances.METHODS,
    circumstances.FAILURES,
    page_data.UNMEASURED,
    other_results.SECTION,
    circumstances.ENVIRONMENT,
    page_data.DATA,
    page_data.WORDS,
)
JOINED = Markup('{}, joined with other <a href="#data">comparisons</a>')


def list_page_sections() -> list[tuple[PageSection, str]]:
    """Return the sections in the order of the page, each with its extension's origin, "" if it is built in.

    ValueError if an extension's section has the name of one that is built in.
    """
    results = [(section, "") for section in RESULTS]
    background = [(section, "") for section in BACKGROUND]
    built_in_names = {section.name for section, _ in results + background}
    added = []
    for name, section in SECTIONS.items():
        origin = SECTIONS.describe_origin(name)
        if name in built_in_names:
            raise ValueError(f"{origin} adds the section {name}, which this program has")
        added.append((section, origin))
    above = [(section, origin) for section, origin in added if section.place == "above"]
    below = [(section, origin) for section, origin in added if section.place != "above"]
    return above + results + below + background


def render_comparison_page(
    name: str,
    records: Sequence[Record],
    *,
    joined_comparisons: Sequence[str] = (),
    incomparable_results: Sequence[IncomparableResults] = (),
    file_errors: Sequence[str] = (),
    folder_records: Sequence[Record] = (),
    results: str = DEFAULT_RESULTS,
) -> str:
    """Return the page of a comparison, or of several `joined_comparisons`, named after the newest.

    `incomparable_results` of the folder cannot be compared with these. `file_errors` are those of files that are left
    out, `folder_records` are all records of the folder, and `results` is its path as commands name it.
    """
    comparison = select_comparison_records(name, records)
    scores = collect_full_label_scores(comparison)
    context = PageContext(
        comparison=comparison,
        records=records,
        differences=judge_first_task_differences(comparison, scores),
        joined_comparisons=joined_comparisons,
        incomparable_results=incomparable_results,
        folder_records=folder_records,
        results=results,
    )
    figures = speed_and_accuracy_table(comparison, scores)
    sections, in_answer, built = build_sections(replace(context, built=[figures]))
    questions = [block.text for block in built if isinstance(block, PageQuestion)]
    sentences = [*questions[:1], *answer_sentences(context, scores)]
    shown_figures = None if questions else figures
    kind = "Smoke test" if comparison.is_smoke_test else "Comparison"
    title = f"{kind} {name} of pre-training methods"
    return render_page(
        title,
        sentences[0],
        eyebrow=JOINED.format(title) if len(joined_comparisons) > 1 else title,
        answer=answer_blocks(context, scores, sentences[1:], shown_figures, in_answer, file_errors),
        sections=sections,
    )


def build_sections(
    context: PageContext,
) -> tuple[list[BuiltSection], list[Block], Sequence[Block]]:
    """Return the sections below the answer as they are drawn, the blocks of those in it, and all blocks of the page.

    ValueError names a section of an extension that fails.
    """
    sections = list[BuiltSection]()
    in_answer = list[Block]()
    for section, origin in list_page_sections():
        try:
            built = section.build_blocks(context)
            if built is None:
                continue
            blocks = _require_sequence_of_blocks(built)
            content = render_blocks(blocks)
        except Exception as error:
            if not origin:
                raise
            reason = format_error_on_one_line(f"{type(error).__name__}: {error}")
            raise ValueError(f"section {section.name} of {origin} failed: {reason}") from error
        context = replace(context, built=[*context.built, *blocks])
        if section.place == "answer":
            in_answer += blocks
        else:
            sections.append(BuiltSection(section.name, section.title, section.label, content))
    return sections, in_answer, context.built


def _require_sequence_of_blocks(built: Sequence[Block]) -> list[Block]:
    """Return what a section returned; TypeError if it is no sequence of blocks."""
    blocks = list(built)
    for block in iterate_nested_blocks(blocks):
        if not isinstance(block, get_args(Block)):
            raise TypeError(f"build must return blocks of bench.interfaces.sections, got {block!r}")
    return blocks
