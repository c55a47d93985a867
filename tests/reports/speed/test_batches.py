"""Charts against the batch size: every size in the records is a point and a row, and an untimed one has no speed."""

from collections.abc import Callable
from statistics import median
from typing import Any

from msgspec.structs import replace

from bench.experiment.experiments import get_experiment
from bench.experiment.settings import with_batch_size
from bench.records.record import BatchTrial, Record
from reports.page import page
from tests.reports.test_page import DASH, Document, rates

Make = dict[str, Callable[..., Any]]
TABLE = "Against the batch size"


def labels(document: Document) -> list[str]:
    return [value for tag, name, value in document.attributes if (tag, name) == ("svg", "aria-label")]


def at_sizes(make: Make, *sizes: int) -> list[Record]:
    """CLIP at several batches: as many images per second at each, memory in proportion."""
    made = []
    for size in sizes:
        sized = with_batch_size(get_experiment("clip-tiny"), size)
        speed, memory = make["speed"]("clip-tiny", 0).measured, make["memory"]("clip-tiny").measured
        seconds = sized.images_per_window / get_experiment("clip-tiny").images_per_window
        windows = tuple(seconds * window for window in speed.window_seconds)
        made.append(make["record"](replace(speed, window_seconds=windows), sized))
        made.append(make["record"](replace(memory, peak_rss_bytes=size * 2**20), sized))
    return made


def test_single_batch_size_has_no_batch_charts(whole_page: str) -> None:
    assert TABLE not in Document(whole_page).tables


def test_largest_batch_and_its_trials_are_points(make: Make) -> None:
    names = ("clip-tiny", "catlip-tiny")
    records = [make["speed"](name, number) for name in names for number in range(5)]
    records += [make["memory"](name) for name in names] + make["largest"]()
    document = Document(page("x", records))
    rows = document.tables[TABLE][1:]
    assert [row[:2] for row in rows if row[0].startswith("CatLIP")] == [
        ["CatLIP|catlip-tiny", size] for size in ("128", "688", "704")
    ]
    equal, largest, beyond = (row for row in rows if row[0].startswith("CatLIP"))
    measured = median(rates(records, "catlip-tiny[batch_size=688]").values())
    assert largest[2].startswith(f"{measured:,.0f}|")
    assert equal[4] == "287"
    assert largest[4].startswith(f"{DASH}not measured")
    assert [row[5].partition("not")[0] for row in (equal, largest, beyond)] == [DASH, "✓ fits", "✕ out of memory"]
    assert beyond[2] == f"{DASH}not timed at this batch"
    heard = labels(document)
    assert any(label.startswith("Images per second against the batch") and "at 688" in label for label in heard)
    assert any(label.startswith("Peak memory against the batch") and "CatLIP 287 at 128" in label for label in heard)


def test_every_batch_size_is_described_in_order(make: Make) -> None:
    document = Document(page("x", at_sizes(make, 512, 64, 256)))
    assert [row[1] for row in document.tables[TABLE][1:]] == ["64", "256", "512"]
    heard = next(label for label in labels(document) if label.startswith("Peak memory"))
    assert "CLIP 64 at 64, 256 at 256, 512 at 512" in heard


def test_trials_alone_are_drawn_at_their_limit(make: Make) -> None:
    one = get_experiment("clip-tiny")
    tries = [
        make["record"](BatchTrial(limit_bytes=2**30, fits=size < 200), with_batch_size(one, size))
        for size in (160, 240)
    ]
    document = Document(page("x", [make["speed"]("clip-tiny", 0), make["memory"]("clip-tiny"), *tries]))
    assert [row[-1].partition("not")[0] for row in document.tables[TABLE][1:]] == [DASH, "✓ fits", "✕ out of memory"]
    assert "limit of 1.0 GiB" in document.words()
