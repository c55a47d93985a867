import json
import math
import os
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

import bench.records.record
import bench.records.record_kind
from bench.environment.circumstances import Circumstances
from bench.experiment.config import FIELDS, Experiment, change
from bench.experiment.experiments import EXPERIMENTS
from bench.measure.throughput import require_comparable
from bench.records.record import (
    FORMAT,
    Failure,
    FigureSpec,
    MeasuredFigures,
    Record,
    Speed,
    is_record_file,
    list_comparison_names,
    read_record,
    read_records,
    record_path,
    write_record,
)
from bench.records.record_kind import RecordContent, UnknownRecordContent, kind_tag
from tests.small import circumstances
from tests.speeds import speed as plain_speed

laws = settings(derandomize=True, deadline=None, database=None, max_examples=40)

ROOT = Path(bench.records.record.__file__).parents[2]
KINDS = [*bench.records.record.RECORD_KINDS.values()]
TINY = EXPERIMENTS["clip-tiny"]
HERE = circumstances(machine="two cores", packages={"torch": "2.6.0"})


def failed(reason: str = "out of memory", **changes: Any) -> Record:
    measured = Failure(what="speed", reason=reason)
    return replace(
        Record(comparison="c", experiment=TINY, circumstances=HERE, measured=measured), **changes
    )


OF_EACH: dict[
    str, tuple[str, ...]
] = {  # the fields of kinds that have an entry for each window, step or branch
    "Speed": (),
    "Training": ("branches", "cooldown_losses"),
    "ReleasedRun": ("window_images", "window_seconds"),
}


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Any value that a field of this type may hold; numbers are finite."""
    plain = {
        int: st.integers(-(2**63), 2**64 - 1),
        float: st.floats(allow_nan=False, allow_infinity=False),
        str: st.text(max_size=20),
        bool: st.booleans(),
        NoneType: st.none(),
        msgspec.UnsetType: st.just(msgspec.UNSET),
        Experiment: st.sampled_from([*EXPERIMENTS.values()]),
    }
    arguments = get_args(hint)
    if get_origin(hint) is Annotated:
        return within(*arguments)
    if hint in plain or get_origin(hint) is Literal:
        return plain[hint] if hint in plain else st.sampled_from(arguments)
    if isinstance(hint, UnionType) or get_origin(hint) is Union:
        return st.one_of(*map(values_of, arguments))
    if get_origin(hint) is tuple:
        is_long = arguments[1:] == (...,)
        several = st.lists(values_of(arguments[0]), max_size=4).map(tuple)
        return several if is_long else st.tuples(*map(values_of, arguments))
    if get_origin(hint) is dict:
        return st.dictionaries(values_of(arguments[0]), values_of(arguments[1]), max_size=3)
    hints = get_type_hints(hint, include_extras=True)
    fields = {name: values_of(hints[name]) for name in hint.__struct_fields__}
    if "started_at" in fields:
        fields["started_at"] = st.datetimes().map(datetime.isoformat)
    counts = st.integers(1, 3) if getattr(hint, "__name__", "") in OF_EACH else st.just(0)
    return counts.flatmap(lambda count: st.builds(hint, **fields | of_each(hint, count)))


def of_each(kind: type, count: int) -> dict[str, st.SearchStrategy[Any]]:
    """The fields that have an entry for each window, step or branch of a run; other kinds have none."""
    hints = get_type_hints(kind, include_extras=True)

    def entries(hint: Any) -> st.SearchStrategy[Any]:
        element = get_args(get_args(hint)[0] if get_origin(hint) is Annotated else hint)[0]
        return st.lists(values_of(element), min_size=count, max_size=count).map(tuple)

    if kind is MeasuredFigures:
        figures = st.shared(
            st.lists(values_of(FigureSpec), max_size=3, unique_by=lambda one: one.name).map(tuple)
        )
        numbers = st.lists(values_of(float), min_size=1, max_size=4).map(tuple)
        values = figures.flatmap(
            lambda of: st.fixed_dictionaries({one.name: numbers for one in of})
        )
        return {"figures": figures, "values": values}
    if kind is not Speed:
        return {name: entries(hints[name]) for name in OF_EACH.get(kind.__name__, ())}
    windows = entries(hints["window_seconds"])
    ranks = st.shared(st.integers(1, 3), key="ranks")

    def of_ranks(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return ranks.flatmap(lambda many: st.lists(values, min_size=many, max_size=many).map(tuple))

    return {
        "window_seconds": windows,
        "window_core_waits": entries(hints["window_core_waits"]) | st.just(()),
        "window_throttled_percent": entries(hints["window_throttled_percent"]) | st.just(()),
        "window_images": st.just(()) | entries(hints["window_images"]),
        "rank_window_seconds": of_ranks(windows),
    }


def within(kind: Any, meta: msgspec.Meta) -> st.SearchStrategy[Any]:
    """Any value of the kind that the meta data admits."""
    if kind is int:
        return st.integers(meta.ge, 2**63 - 1 if meta.le is None else meta.le)
    if kind is float:
        low = meta.ge if meta.gt is None else meta.gt
        return st.floats(
            low, meta.le, exclude_min=meta.gt is not None, allow_nan=False, allow_infinity=False
        )
    if meta.min_length:
        return st.lists(values_of(get_args(kind)[0]), min_size=meta.min_length, max_size=4).map(
            tuple
        )
    return st.from_regex(meta.pattern, fullmatch=True) if meta.pattern else values_of(kind)


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


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_record_round_trips(kind: type[RecordContent], tmp_path: Path) -> None:
    of, path = Experiment if kind.needs_experiment else Experiment | None, tmp_path / NAME

    @settings(laws, max_examples=10)
    @given(values_of(of), values_of(Circumstances), values_of(kind), st.text(max_size=10))
    def check(
        experiment: Experiment | None, where: Circumstances, measured: Any, comparison: str
    ) -> None:
        record = Record(
            comparison=comparison, experiment=experiment, circumstances=where, measured=measured
        )
        write_record(record, path)
        again = read_record(path)
        assert again == record
        assert repr(again) == repr(record)  # -0.0 and 0.0 are equal, tuples and lists are not

    check()


PLACES: dict[str, Callable[[float], Record]] = {
    "warmup_seconds": lambda bad: speed(warmup_seconds=bad),
    "window_seconds": lambda bad: speed(window_seconds=(1.0, bad)),
    "utilisation": lambda bad: speed(utilisation={"gpu_busy_percent": bad}),
    "not finite": lambda bad: speed(
        tokens_per_caption=bad
    ),  # JSON's null would read as "not measured"
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


@pytest.mark.parametrize("number", [0, FORMAT - 1, FORMAT + 1, 99, -1])
def test_another_format_is_refused_by_number_with_a_remedy_whatever_else_it_holds(
    number: int, tmp_path: Path
) -> None:
    later = b'{"format": %d, "invented": [1, {"later": null}]}' % number
    for content in (GOOD.replace(b'"format":%d' % FORMAT, b'"format":%d' % number), later):
        path = corrupt(content, tmp_path)
        text = f"{path}: has format {number}, this version reads format {FORMAT}: measure again, or read it at"
        with pytest.raises(ValueError, match=f"^{re.escape(text)} the commit that it names$"):
            read_record(path)


CORRUPTED = {
    "unknown field": (b'{"format"', b'{"extra":1,"format"'),
    "unknown field inside": (b'"reason"', b'"extra":1,"reason"'),
    "missing field": (b'"threads":2,', b""),
    "wrong type": (b'"threads":2', b'"threads":"2"'),
    "unknown kind": (b'"kind":"failure"', b'"kind":"luck"'),
    "an experiment that cannot be run": (b'"batch_size":128', b'"batch_size":0'),
    "lone surrogate": (b"two cores", b"two \\ud800"),
    "not UTF-8": (b"two cores", b"two \xff\xff"),
}


@pytest.mark.parametrize("what", CORRUPTED)
def test_corrupted_record_is_refused_with_its_file_name(what: str, tmp_path: Path) -> None:
    assert CORRUPTED[what][0] in GOOD
    path = corrupt(GOOD.replace(*CORRUPTED[what]), tmp_path)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: "):
        read_record(path)


IMPOSSIBLE = {
    "a window of 0 s": ("measured", "window_seconds", [0.5, 0.0]),
    "a window of 1e305 s": ("measured", "window_seconds", [1e305]),
    "no window": ("measured", "window_seconds", []),
    "a phase of no step": ("measured", "phase_seconds", {"data": []}),
    "a window of no image": ("measured", "window_images", [0, 8]),
    "images of some windows": ("measured", "window_images", [8] * 5),
    "a rank that lacks a window": ("measured", "rank_window_seconds", [[0.5], [0.5] * 5]),
    "a step without work": (
        "measured",
        "flops",
        {"image_forward": 0, "text_forward": 0, "forward": 0, "step": 0},
    ),
    "more steps than there can be": ("experiment", "steps_per_window", 10**30),
    "tokens below 0": ("measured", "tokens_per_caption", -1.0),
    "parameters below 0": ("measured", "trained_parameters", -1),
    "0 processes": ("circumstances", "processes", 0),
    "0 threads": ("circumstances", "threads", 0),
    "a date that is none": ("circumstances", "started_at", "2026-13-45T00:00:00"),
    "100,000 readings": (
        "measured",
        "utilisation",
        {f"reading {number}": 1.0 for number in range(100_000)},
    ),
}


@pytest.mark.parametrize("what", [*IMPOSSIBLE, "no experiment"])
def test_impossible_record_is_refused_with_its_file_name(what: str, tmp_path: Path) -> None:
    document = json.loads(msgspec.json.encode(speed()))
    if what == "no experiment":
        document["experiment"] = None
    else:
        part, field, value = IMPOSSIBLE[what]
        document[part][field] = value
    path = corrupt(json.dumps(document).encode(), tmp_path)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: "):
        read_record(path)


# Where a record lies


# Lone surrogates among them.
NAMES = st.lists(st.text(st.characters(), max_size=20), min_size=1, max_size=3)
PLAIN = st.from_regex(r"[A-Za-z0-9=+,_-]{1,12}", fullmatch=True)


def lay(results: Path, comparison: str, *names: object) -> Record:
    record = failed(comparison=comparison, reason=" ".join(map(repr, names)))
    write_record(record, record_path(results, comparison, "speed", *names))
    return record


@laws
@given(st.text(max_size=20), NAMES, NAMES)
def test_arbitrary_names_become_distinct_plain_file_names(
    kind: str, one: list[str], two: list[str]
) -> None:
    paths = [record_path(Path("results"), "2026-01-01", kind, *names) for names in (one, two)]
    assert (paths[0] == paths[1]) == (one == two)
    assert paths[0].parent == Path("results")
    assert re.fullmatch(r"2026-01-01(\.[A-Za-z0-9=+,_-]+)+\.json", paths[0].name)
    assert paths[0].name.count(".") == 2 + len(one)


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
    kinds = [*map(kind_tag, KINDS)]
    for kind in kinds:
        write_record(failed(kind), record_path(tmp_path, "c", kind, "x"))
    json_files = (
        "figures.json",
        "c.json",
        "c.suites.json",
        "d.others.1.json",
        "speed.c.json",
        ".c.speed.x.json",
    )
    for name in (
        *json_files,
        "index.html",
        "c.tower.safetensors",
        "c.speed.x.json.4711",
        ".5.part",
        "notes",
    ):
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
    try:
        require_comparable(rows, may_differ=may_differ)
    except ValueError as error:
        return set(re.findall(r"(?:differ in |; )(\w+): ", str(error)))
    return set()


OTHER_PLACE: dict[str, Any] = {
    "machine": "an H100",
    "device": "cuda",
    "threads": 4,
    "packages": {"torch": "2.7.0"},
}
OTHER_GPU: dict[str, Any] = {"gpu": {"power limit": "500 W", "ECC": None}}
OTHER_CIRCUMSTANCE: dict[str, Any] = (
    OTHER_PLACE | OTHER_GPU | {"precision": "bf16", "compiled": True, "processes": 2}
)


def elsewhere(**changes: Any) -> Record:
    return failed(circumstances=replace(HERE, **changes))


def otherwise(**changes: Any) -> Record:
    return failed(experiment=change(TINY, **changes))


def test_comparable_records_may_differ_in_name_commit_time_and_package_order() -> None:
    named = (
        failed(),
        failed("another reason"),
        failed(comparison="another"),
        otherwise(name="another"),
    )
    later = failed(), elsewhere(commit="fedcba9", started_at="2027-01-01")
    for rows in (named, later, [failed()], []):
        assert differences(*rows) == set()
    one, two = {"a": "1", "b": "2"}, {"b": "2", "a": "1"}
    assert differences(elsewhere(packages=one), elsewhere(packages=two)) == set()


@pytest.mark.parametrize("circumstance", OTHER_CIRCUMSTANCE)
@pytest.mark.parametrize("experiment", [TINY, None])
def test_differing_circumstance_is_named_unless_explained_by_an_allowed_field(
    circumstance: str, experiment: Experiment | None
) -> None:
    there = replace(HERE, **{circumstance: OTHER_CIRCUMSTANCE[circumstance]})
    rows = [failed(experiment=experiment, circumstances=where) for where in (HERE, HERE, there)]
    explanation = {"precision": "precision", "compiled": "compile"}.get(circumstance)
    assert differences(*rows) == {circumstance}
    assert differences(*rows, may_differ={*FIELDS, *OTHER_CIRCUMSTANCE} - {explanation}) == {
        circumstance
    }
    assert differences(*rows, may_differ=FIELDS) == (set() if explanation else {circumstance})
