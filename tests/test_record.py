import json
import math
import os
import re
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

import bench.records.record
import bench.records.record_kind
from bench.experiment.config import FIELDS, Experiment, change
from bench.experiment.experiments import EXPERIMENTS
from bench.measure.throughput import reason_not_comparable
from bench.records.record import (
    FORMAT,
    Failure,
    Record,
    is_record_file,
    list_comparison_names,
    read_record,
    read_records,
    record_path,
    write_record,
)
from bench.records.record_kind import UnknownRecordContent, kind_tag
from tests.small import circumstances
from tests.speeds import speed as plain_speed

laws = settings(derandomize=True, deadline=None, database=None, max_examples=40)

ROOT = Path(bench.records.record.__file__).parents[2]

TINY = EXPERIMENTS["clip-tiny"]
HERE = circumstances(machine="two cores", packages={"torch": "2.6.0"})


def failed(reason: str = "out of memory", **changes: Any) -> Record:
    measured = Failure(what="speed", reason=reason)
    return replace(
        Record(comparison="c", experiment=TINY, circumstances=HERE, measured=measured), **changes
    )


def speed(**changes: Any) -> Record:
    timed = {"round": 1, "window_seconds": (0.5, 0.25), "phase_seconds": {"data": (0.5, 0.25)}}
    return failed(measured=plain_speed(**timed | changes))


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def corrupt(content: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "c.speed.spoilt.json"
    path.write_bytes(content)
    return path


GOOD = msgspec.json.encode(failed())
NAME = "c.speed.x.json"


# A document keeps what was put in


PLACES: dict[str, Callable[[float], Record]] = {
    "warmup_seconds": lambda bad: speed(warmup_seconds=bad),
    "window_seconds": lambda bad: speed(window_seconds=(1.0, bad)),
    "utilisation": lambda bad: speed(utilisation={"gpu_busy_percent": bad}),
    # JSON's null would read as "not measured"
    "not finite": lambda bad: speed(tokens_per_caption=bad),
}


@pytest.mark.parametrize("words", PLACES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_figure_that_is_not_finite_is_not_written(words: str, bad: float, tmp_path: Path) -> None:
    write_record(failed("old"), tmp_path / NAME)
    before = contents(tmp_path)
    for path in (tmp_path / NAME, tmp_path / "c.speed.new.json"):
        with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: .*{words}"):
            write_record(PLACES[words](bad), path)
        assert contents(tmp_path) == before


# Whole or not there


def test_write_becomes_visible_after_fsync_and_concurrent_writes_do_not_interfere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with two threads, or two containers in which the process has the same number: the second in mid-write."""
    path, seen = tmp_path / NAME, list[list[Record]]()

    def write_another(_: int) -> None:
        seen.append(read_records(tmp_path))
        if len(seen) == 1:
            write_record(failed("a long reason " * 50), path)
            seen.append(read_records(tmp_path))

    monkeypatch.setattr(os, "fsync", write_another)
    write_record(failed("short"), path)
    another = failed("a long reason " * 50)
    assert seen == [[], [], [another], [another], [failed("short")]]
    assert read_records(tmp_path) == [failed("short")]
    assert [*contents(tmp_path)] == [NAME]


# Refused, by the name of the file


@pytest.mark.parametrize("number", [FORMAT - 1, FORMAT + 1])
def test_another_format_is_refused_by_number_with_a_remedy_whatever_else_it_holds(
    number: int, tmp_path: Path
) -> None:
    later = b'{"format": %d, "invented": [1, {"later": null}]}' % number
    for content in (GOOD.replace(b'"format":%d' % FORMAT, b'"format":%d' % number), later):
        path = corrupt(content, tmp_path)
        text = f"{path}: has format {number}, this version reads format {FORMAT}: measure again, or read it at"
        with pytest.raises(ValueError, match=f"^{re.escape(text)} the commit that it names$"):
            read_record(path)


IMPOSSIBLE = {
    "a window of 0 s": ("measured", "window_seconds", [0.5, 0.0]),
    "a phase of no step": ("measured", "phase_seconds", {"data": []}),
    "more steps than there can be": ("experiment", "steps_per_window", 10**30),
    "0 processes": ("circumstances", "processes", 0),
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_impossible_record_is_refused_with_its_file_name(what: str, tmp_path: Path) -> None:
    document = json.loads(msgspec.json.encode(speed()))
    part, field, value = IMPOSSIBLE[what]
    document[part][field] = value
    path = corrupt(json.dumps(document).encode(), tmp_path)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: "):
        read_record(path)


# Where a record lies


# Lone surrogates among them.
NAMES = st.lists(st.text(st.characters(), max_size=20), min_size=1, max_size=3)


def lay(results: Path, comparison: str, *names: object) -> Record:
    record = failed(comparison=comparison, reason=" ".join(map(repr, names)))
    write_record(record, record_path(results, comparison, "speed", *names))
    return record


@laws
@given(st.text(max_size=20), NAMES, NAMES)
def test_arbitrary_names_become_distinct_plain_file_names(
    kind: str, names: list[str], other_names: list[str]
) -> None:
    path, other = (
        record_path(Path("results"), "2026-01-01", kind, *words) for words in (names, other_names)
    )
    assert (path == other) == (names == other_names)
    assert path.parent == Path("results")
    assert re.fullmatch(r"2026-01-01(\.[A-Za-z0-9=+,_-]+)+\.json", path.name)
    assert path.name.count(".") == 2 + len(names)


def test_comparisons_are_listed_once_oldest_first_and_read_alone_in_the_order_of_names(
    tmp_path: Path,
) -> None:
    runs = [
        ("2026-03-01", "a", 0),
        ("2026-01-01", "b", 0),
        ("2026-01-01", "a", 1),
        ("2026-01-01-b", "a", 0),
    ]
    third, second, first, other = (lay(tmp_path, *run) for run in runs)
    assert list_comparison_names(tmp_path) == ["2026-01-01", "2026-01-01-b", "2026-03-01"]
    assert read_records(tmp_path, "2026-01-01") == [first, second]
    assert read_records(tmp_path, "2026-01-01-b") == [other]
    assert read_records(tmp_path, "2026") == []
    assert read_records(tmp_path) == [other, first, second, third]  # "-" sorts before "."


def test_every_kind_of_record_is_read_and_no_other_file(tmp_path: Path) -> None:
    kinds = [kind_tag(kind) for kind in bench.records.record.RECORD_KINDS.values()]
    for kind in kinds:
        write_record(failed(kind), record_path(tmp_path, "c", kind, "x"))
    others = "c.json c.suites.json speed.c.json .c.speed.x.json c.tower.safetensors c.speed.x.json.4711 notes"
    for name in shlex.split(others):
        (tmp_path / name).write_text("half a rec", encoding="utf-8")
    (tmp_path / "cache").mkdir()
    assert (
        read_records(tmp_path)
        == read_records(tmp_path, "c")
        == [failed(kind) for kind in sorted(kinds)]
    )
    assert list_comparison_names(tmp_path) == ["c"]
    for empty in (tmp_path / "cache", tmp_path / "not there"):
        assert read_records(empty) == []
        assert list_comparison_names(empty) == []


def test_record_of_an_unknown_kind_is_read_and_kept_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "c.luck.x.json"
    content = {"kind": "luck", "odds": [1e5, {"a": None}], "more": 3}
    document = json.loads(msgspec.json.encode(failed())) | {"measured": content, "experiment": None}
    path.write_bytes(msgspec.json.format(json.dumps(document).encode(), indent=1))
    write_record(failed(), tmp_path / NAME)
    of_luck, other = read_records(tmp_path)
    assert isinstance(of_luck.measured, UnknownRecordContent)
    assert of_luck.measured == content
    assert other == failed()
    assert list_comparison_names(tmp_path) == ["c"]
    before = path.read_bytes()
    write_record(of_luck, path)
    assert path.read_bytes() == before
    document["circumstances"]["threads"] = 0
    path.write_text(json.dumps(document))
    assert read_records(tmp_path) == [failed()]  # its name alone does not make it a record


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tests" / "records").rglob("*.*.json")), ids=lambda path: path.name
)
def test_kept_record_is_written_again_byte_for_byte(path: Path, tmp_path: Path) -> None:
    if is_record_file(path):
        write_record(read_record(path), tmp_path / path.name)
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


# What may be compared


def differences(*rows: Record, may_differ: Iterable[str] = ()) -> set[str]:
    """Return the fields that the refusal names; none where the records may be compared."""
    reason = reason_not_comparable(rows, may_differ=may_differ) or ""
    return set(re.findall(r"(?:differ in |; )(\w+): ", reason))


OTHER_CIRCUMSTANCE: dict[str, Any] = {
    "machine": "an H100",
    "device": "cuda",
    "threads": 4,
    "packages": {"torch": "2.7.0"},
    "gpu": {"power limit": "500 W", "ECC": None},
    "precision": "bf16",
    "compiled": True,
    "processes": 2,
}


def test_comparable_records_may_differ_in_name_commit_time_and_package_order() -> None:
    rows = [
        failed("another reason", comparison="another"),
        failed(experiment=change(TINY, name="another")),
        failed(circumstances=replace(HERE, commit="fedcba9", started_at="2027-01-01")),
    ]
    assert differences(failed(), *rows) == set()
    orders = [{"a": "1", "b": "2"}, {"b": "2", "a": "1"}]
    rows = [failed(circumstances=replace(HERE, packages=packages)) for packages in orders]
    assert differences(*rows) == set()


@pytest.mark.parametrize("circumstance", OTHER_CIRCUMSTANCE)
@pytest.mark.parametrize("experiment", [TINY, None])
def test_differing_circumstance_is_named_unless_explained_by_an_allowed_field(
    circumstance: str, experiment: Experiment | None
) -> None:
    elsewhere = replace(HERE, **{circumstance: OTHER_CIRCUMSTANCE[circumstance]})
    rows = [failed(experiment=experiment, circumstances=where) for where in (HERE, elsewhere)]
    explanation = {"precision": "precision", "compiled": "compile"}.get(circumstance)
    assert differences(*rows) == {circumstance}
    assert differences(*rows, may_differ=FIELDS) == (set() if explanation else {circumstance})
