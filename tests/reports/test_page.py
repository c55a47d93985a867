"""The page says what the records say, shows all of it, and trusts none of it."""

import base64
import bz2
import json
import re
from html.parser import HTMLParser
from itertools import chain
from statistics import median
from typing import Any

import pytest
from msgspec.structs import replace

from bench.interfaces.registry import Registry
from bench.interfaces.sections import (
    Block,
    IncomparableResults,
    PageContext,
    PageSection,
    Paragraph,
)
from bench.measure.timed_run import TimedRun
from bench.records.record import Record, Speed, TransferScores
from bench.statistics.intervals import accuracy_with_wilson_interval, mean_with_interval
from bench.statistics.ratios import compare_rate_pairs, compare_rates
from bench.tables.formats import format_p_value
from reports.page import render_comparison_page
from tests.reports.conftest import (
    failure_record,
    memory_record,
    short,
    speed_record,
    transfer_records,
)

DASH = "\N{EN DASH}"

# Text that would break a page that did not escape it.
HOSTILE = "<script>alert(1)</script>\"'&{{7*7}}$x_1$ --> font-family: x; 日本"


class Document(HTMLParser):
    """Text, tables by what they are called, attributes and ids of a page."""

    VOID = frozenset({"meta", "br", "link", "input", "img"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self._rows: list[list[str]] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "div" and ("class", "scroll") in attrs:
            self._rows = self.tables.setdefault(dict(attrs)["aria-label"] or "", [])
        elif self._rows is not None and tag == "tr":
            self._rows.append([])
        elif self._rows is not None and tag in {"td", "th"}:
            self._rows[-1].append("")
        elif self._rows is not None and tag == "small":
            self._rows[-1][-1] += "|"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"
        if tag == "table":
            self._rows = None

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"script", "style"}:
            self.text.append(data)
        if self._rows and self._rows[-1] and self.open and self.open[-1] != "caption":
            self._rows[-1][-1] += data.strip("\n")

    def words(self) -> str:
        return " ".join(" ".join(self.text).replace("\N{NO-BREAK SPACE}", " ").split())

    def row(self, table: str, name: str) -> list[str]:
        return next(row for row in self.tables[table] if row and row[0].split("|")[0] == name)


def rates(records: list[Record], name: str) -> dict[int, float]:
    return {
        one.measured.round: TimedRun(
            one.experiment, one.measured
        ).images_per_second_preferably_undisturbed()
        for one in records
        if isinstance(one.measured, Speed) and one.experiment and one.experiment.name == name
    }


@pytest.fixture(scope="module")
def text(whole: list[Record]) -> str:
    return render_comparison_page(
        "one", whole, incomparable_results=[IncomparableResults(["older"], whole, "Not joined.")]
    )


def test_equal_records_give_equal_bytes(whole: list[Record], text: str) -> None:
    assert (
        render_comparison_page(
            "one",
            whole,
            incomparable_results=[IncomparableResults(["older"], whole, "Not joined.")],
        )
        == text
    )


def require_self_contained(text: str) -> None:
    """Require that a page loads nothing, and that its ids are unique and every anchor has one."""
    attributes = Document(text).attributes
    for _, name, value in attributes:
        if name in {"src", "href", "srcset", "action", "data", "xlink:href"}:
            assert value.startswith(("#", "data:")), value
    assert not re.search("https?://|@import", text)
    ids = [value for _, name, value in attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {
        value[1:] for _, name, value in attributes if name == "href" and value.startswith("#")
    } <= set(ids)


def test_page_loads_nothing_and_its_anchors_resolve(text: str) -> None:
    require_self_contained(text)


def test_summary_equals_the_statistics(whole: list[Record], text: str) -> None:
    words = Document(text).words()
    found = compare_rates(rates(whole, "clip-tiny"), rates(whole, "catlip-tiny"))
    assert found.low is not None
    assert found.high is not None
    assert f"CatLIP trains {found.value:.2f} times as many images per second as CLIP" in words
    assert f"(95 % interval {found.low:.2f} to {found.high:.2f}, 6 runs each)" in words
    rows = [Document(text).row("The answer in figures", name)[3] for name in ("CatLIP", "CLIP")]
    (ours, _, interval), (base, _, other) = (
        cell.partition("; in ")[0].partition("|") for cell in rows
    )
    assert (
        f"on unseen subgroup CatLIP's scores {ours} and CLIP's {base} (95 % intervals {interval} and {other} over 822 "
        "test images; 1 paired seed, a ranking needs 5)"
    ) in words


def test_throughput_table_equals_the_statistics(whole: list[Record], text: str) -> None:
    document = Document(text)
    names = {"siglip-tiny": "SigLIP", "catlip-tiny": "CatLIP", "superclass-tiny": "SuperClass"}
    base = rates(whole, "clip-tiny")
    expected = compare_rate_pairs({name: (base, rates(whole, name)) for name in names})
    for name, label in names.items():
        row = document.row("Throughput of each experiment", label)
        ratio, speed = expected[name], median(rates(whole, name).values())
        assert ratio.p is not None
        assert row[0] == f"{label}|{name}"
        assert row[1].startswith(f"{speed:,.0f}|")
        assert row[2] == "6"
        assert row[3] == f"{ratio.value:.2f}|{ratio.low:.2f} to {ratio.high:.2f}"
        assert row[5] == format_p_value(ratio.p)
        assert ratio.verdict in row[6].replace("\N{NO-BREAK SPACE}", " ")


def test_accuracy_table_equals_the_statistics(whole: list[Record], text: str) -> None:
    def answers(subject: str, images: int) -> list[float]:
        found = next(
            one.measured
            for one in whole
            if isinstance(one.measured, TransferScores)
            and (one.measured.subject, one.measured.images) == (subject, images)
        )
        assert isinstance(found, TransferScores)
        return [*map(float, found.scores[0].correct)]

    def shown(value: float) -> str:
        return f"{value:.3f}"

    tower, random_init = answers("catlip-tiny", 80_000), answers("random init", 0)
    accuracy, gain = (
        accuracy_with_wilson_interval(tower),
        mean_with_interval([a - b for a, b in zip(tower, random_init, strict=True)]),
    )
    row = Document(text).row("Accuracy on unseen subgroup", "CatLIP")
    assert row[1] == "80,000"
    assert row[3] == f"{shown(accuracy.value)}|{shown(accuracy.low)} to {shown(accuracy.high)}"
    assert row[4] == f"+{shown(gain.value)}|+{shown(gain.low)} to +{shown(gain.high)}"


def test_downloads_hold_the_records(whole: list[Record], text: str) -> None:
    attributes = Document(text).attributes
    files = {
        attributes[at - 1][2]: base64.b64decode(value.split("base64,")[1])
        for at, (_, name, value) in enumerate(attributes)
        if name == "href" and value.startswith("data:")
    }
    assert len(json.loads(bz2.decompress(files["one-records.json.bz2"]))) == len(whole)


@pytest.mark.parametrize(
    "change", [{"machine": "another"}, {"gpu": {"power limit": "500 W", "ECC": None}}]
)
def test_runs_of_two_machines_are_not_compared(change: dict[str, Any]) -> None:
    one, other = speed_record("clip-tiny", 0), speed_record("catlip-tiny", 0)
    one = replace(
        one, circumstances=replace(one.circumstances, gpu={"power limit": "700 W", "ECC": "on"})
    )
    other = replace(other, circumstances=replace(one.circumstances, **change))
    document = Document(render_comparison_page("x", [one, other]))
    assert "No ratios are shown: these records cannot be compared" in document.words()
    assert "This does not show other machines than Example CPU" in document.words()
    assert "times as many" not in document.words()
    if "gpu" in change:
        differing = document.tables["Circumstances that differ"]
        assert [row[:3] for row in differing[1:]] == [
            ["power limit", "700 W", "500 W"],
            ["ECC", "on", "unknown"],
        ]


def test_twofold_mfu_gap_is_reported_as_engineering() -> None:
    one, other = speed_record("clip-tiny", 0, slower=2.5), speed_record("catlip-tiny", 0)
    one = replace(one, measured=replace(one.measured, peak_flops_per_second=2.1e11))
    assert (
        "Engineering is being compared, not methods."
        in Document(render_comparison_page("x", [one, other])).words()
    )


def test_five_seeds_allow_a_ranking_and_fewer_do_not() -> None:
    correct_by_seed = [[short(one) for one in transfer_records(seed)] for seed in range(5)]
    few, many = (
        Document(render_comparison_page("x", [*chain(*correct_by_seed[:count])]))
        for count in (4, 5)
    )
    table = "Differences of accuracy from the base"
    assert "4 paired seeds, a ranking needs 5" in few.words()
    assert table not in few.tables
    assert "over 5 seeds and 822 test images; adjusted p" in many.words()
    assert len(many.tables[table]) == 1 + 6  # three experiments at two budgets
    assert "On unseen subgroup, CatLIP is " in many.words()


def test_headline_table_equals_the_other_tables(text: str) -> None:
    document = Document(text)
    columns = [column.split("|")[0] for column in document.tables["The answer in figures"][0]]
    assert columns[1] == "images/s at equal batch size"
    assert columns[2:4] == [
        "unseen subgroup after 80,000 images",
        "unseen subgroup after equal device seconds",
    ]
    assert columns[4:] == ["FLOP-predicted ratio", "MFU"]
    for name in ("SigLIP", "CatLIP", "SuperClass"):
        answer, speed = (
            document.row("The answer in figures", name),
            document.row("Throughput of each experiment", name),
        )
        assert [answer[1], *answer[4:]] == [speed[3], speed[8], speed[9]]
        accuracy, _, taken = answer[2].partition("; in ")
        rows = [
            row for row in document.tables["Accuracy on unseen subgroup"] if row[0].startswith(name)
        ]
        assert (accuracy, taken) == next((row[3], row[2]) for row in rows if row[1] == "80,000")


def test_unmeasured_figures_are_listed_with_their_reason() -> None:
    one = speed_record("clip-tiny", 0)
    measured = replace(
        one.measured,
        peak_flops_per_second=None,
        peak_source="no such device",
        not_measured={"GPU": "no such driver"},
    )
    document = Document(
        render_comparison_page(
            "x", [replace(one, measured=measured), speed_record("siglip-tiny", 0)]
        )
    )
    listed = {tuple(row) for row in document.tables["Not measured, and why"][1:]}
    assert ("GPU", "CLIP", "no such driver") in listed
    assert ("memory", "all", "this comparison has no run of this kind") in listed


def test_every_dash_has_a_reason() -> None:
    records = [
        speed_record("clip-tiny", 0),
        memory_record("catlip-tiny"),
        failure_record("superclass-tiny"),
    ]
    document = Document(render_comparison_page("x", records))
    text = "not measured: "
    cells = [
        cell for rows in document.tables.values() for row in rows for cell in row if text in cell
    ]
    reasons = {cell.partition(text)[2].partition("|")[0] for cell in cells}
    assert reasons
    assert reasons <= {row[2] for row in document.tables["Not measured, and why"]}


def test_section_in_the_answer_has_no_heading(
    whole: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(context: PageContext) -> list[Block]:
        return [Paragraph(f"The folder has {len(context.folder_records)} records.")]

    section = PageSection("mine", "Mine", "Mine", build, place="answer")
    sections = Registry[PageSection]("section", PageSection)
    sections.add(section, "mine.py")
    monkeypatch.setattr("reports.page.SECTIONS", sections)
    text = render_comparison_page("x", whole[:3], folder_records=whole[:3])
    answer, below = text[text.index('id="answer"') :].split("</section>", 1)
    assert "The folder has 3 records." in answer
    assert 'id="mine"' not in below
