import json
import math
import os
import re
import subprocess
import sys
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
from bench.experiment.config import FIELDS, Experiment, change, get_field
from bench.experiment.experiments import EXPERIMENTS
from bench.interfaces.measurement import Figure
from bench.labels.vocabulary import read_vocabulary
from bench.measure.throughput import require_comparable
from bench.records.record import (
    FORMAT,
    Branch,
    Failure,
    Figures,
    Record,
    Speed,
    Training,
    comparison_from_filename,
    comparisons,
    is_record,
    read_record,
    read_records,
    record_path,
    write_record,
)
from bench.records.record_kind import RecordKind, UnknownKind, tag_of
from tests.small import circumstances
from tests.speeds import speed as plain_speed

laws = settings(derandomize=True, deadline=None, database=None, max_examples=40)

ROOT = Path(bench.records.record.__file__).parents[2]
KINDS = [*bench.records.record_kind.KINDS.values()]
TINY = EXPERIMENTS["clip-tiny"]
HERE = circumstances(machine="two cores", packages={"torch": "2.6.0"})


def failed(reason: str = "out of memory", **changes: Any) -> Record:
    measured = Failure(what="speed", reason=reason)
    return replace(Record(comparison="c", experiment=TINY, circumstances=HERE, measured=measured), **changes)


OF_EACH: dict[str, tuple[str, ...]] = {  # the fields of kinds that have an entry for each window, step or branch
    "Speed": (),
    "Training": ("branches", "cooldown_losses"),
    "ReleasedRun": ("window_images", "window_seconds", "image_sizes", "losses", "gradient_norms"),
}


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Any value that a field of this type may hold; numbers are finite."""
    plain = {
        int: st.integers(-(2**63), 2**64 - 1),
        float: st.floats(allow_nan=False, allow_infinity=False),
        str: st.text(max_size=20),
        bool: st.booleans(),
        NoneType: st.none(),
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

    if kind is Figures:
        figures = st.shared(st.lists(values_of(Figure), max_size=3, unique_by=lambda one: one.name).map(tuple))
        numbers = st.lists(values_of(float), min_size=1, max_size=4).map(tuple)
        values = figures.flatmap(lambda of: st.fixed_dictionaries({one.name: numbers for one in of}))
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
        "rank_figures": st.dictionaries(values_of(str), of_ranks(values_of(float)), max_size=3),
        "rank_hosts": of_ranks(values_of(str)),
    }


def within(kind: Any, meta: msgspec.Meta) -> st.SearchStrategy[Any]:
    """Any value of the kind that the meta data admits."""
    if kind is int:
        return st.integers(meta.ge, 2**63 - 1 if meta.le is None else meta.le)
    if kind is float:
        low = meta.ge if meta.gt is None else meta.gt
        return st.floats(low, meta.le, exclude_min=meta.gt is not None, allow_nan=False, allow_infinity=False)
    if meta.min_length:
        return st.lists(values_of(get_args(kind)[0]), min_size=meta.min_length, max_size=4).map(tuple)
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


@laws
@given(st.text(max_size=300), st.text(max_size=300))
def test_name_of_a_record_has_room_for_the_names_of_its_lock(one: str, other: str) -> None:
    names = "20260101T000000-transfer-0123abcd", "transfer", one, other, "fine-tune-paper"
    path = record_path(Path("results"), *names)
    assert len(f".{path.name}.{'0' * 32}.lock.held") <= 255
    assert is_record(path)
    assert comparison_from_filename(path) == names[0]
    assert path != record_path(Path("results"), *names[:-1], "fine-tune")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_record_round_trips(kind: type[RecordKind], tmp_path: Path) -> None:
    of, path = Experiment if kind.needs_experiment else Experiment | None, tmp_path / NAME

    @settings(laws, max_examples=10)
    @given(values_of(of), values_of(Circumstances), values_of(kind), st.text(max_size=10))
    def check(experiment: Experiment | None, where: Circumstances, measured: Any, comparison: str) -> None:
        record = Record(comparison=comparison, experiment=experiment, circumstances=where, measured=measured)
        write_record(record, path)
        again = read_record(path)
        assert again == record
        assert repr(again) == repr(record)  # -0.0 and 0.0 are equal, tuples and lists are not

    check()


def test_a_float_keeps_its_last_digit(tmp_path: Path) -> None:
    losses = (0.1 + 0.2, 1 / 3, math.nextafter(1, 2), 5e-324, sys.float_info.max, 2.0**-1074 * 3, 1e16 + 2)
    write_record(failed(measured=Training(**LOSSES | {"trunk_losses": losses})), tmp_path / NAME)
    again = read_record(tmp_path / NAME).measured
    assert isinstance(again, Training)
    assert [*map(float.hex, again.trunk_losses)] == [*map(float.hex, losses)]


def test_record_is_standard_json(tmp_path: Path) -> None:
    write_record(failed("grün\n\0\u2028"), tmp_path / NAME)
    content = json.loads((tmp_path / NAME).read_text(encoding="utf-8"))
    assert content["format"] == FORMAT
    assert content["measured"] == {"kind": "failure", "what": "speed", "reason": "grün\n\0\u2028"}
    assert content["experiment"]["training"]["batch_size"] == TINY.training.batch_size


BRANCH = Branch(images=8, budgets=(), tower="t.safetensors")
LOSSES: dict[str, Any] = {"trunk_losses": (), "cooldown_losses": (), "branches": (), "seconds": 1.0}
PLACES: dict[str, Callable[[float], Record]] = {
    "warmup_seconds": lambda bad: speed(warmup_seconds=bad),
    "window_seconds": lambda bad: speed(window_seconds=(1.0, bad)),
    "utilisation": lambda bad: speed(utilisation={"gpu_busy_percent": bad}),
    "cooldown_losses": lambda bad: failed(
        measured=Training(**LOSSES | {"cooldown_losses": ((1.0, bad),), "branches": (BRANCH,)})
    ),
    "not finite": lambda bad: speed(tokens_per_caption=bad),  # JSON's null would read as "not measured"
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


def test_unencodable_record_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="surrogates not allowed"):
        write_record(failed(b"\xff stopped".decode(errors="surrogateescape")), tmp_path / NAME)
    with pytest.raises(TypeError):
        write_record(failed(measured=object()), tmp_path / NAME)
    assert contents(tmp_path) == {}


# Whole or not there


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("moment", ["fsync", "replace"])
@pytest.mark.parametrize("existed", [True, False])
def test_failed_write_leaves_the_old_record_and_no_temporary_file(
    moment: str, error: BaseException, existed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    path = tmp_path / NAME
    if existed:
        write_record(failed("old"), path)
    before = contents(tmp_path)
    monkeypatch.setattr(os, moment, fail)
    with pytest.raises(type(error)):
        write_record(failed("new"), path)
    assert contents(tmp_path) == before


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


WRITER = """
import sys
from pathlib import Path
from bench.records.record import decode_record, write_record
path = Path(sys.argv[1])
record = decode_record(sys.stdin.buffer.read(), path)
for _ in range(40):
    write_record(record, path)
"""


def test_concurrent_writers_leave_one_complete_record(tmp_path: Path) -> None:
    path = tmp_path / NAME
    possible = [failed(letter * 20_000 * (place + 1)) for place, letter in enumerate("abc")]
    command = [sys.executable, "-c", WRITER, str(path)]
    writers = [subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT) for _ in possible]
    for writer, record in zip(writers, possible, strict=True):
        assert writer.stdin is not None
        writer.stdin.write(msgspec.json.encode(record))
        writer.stdin.close()
    reads = 0
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            assert read_record(path) in possible
            reads += 1
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert reads > 0
    assert read_record(path) in possible
    assert [*contents(tmp_path)] == [NAME]


# Refused, by the name of the file


@pytest.mark.parametrize("number", [0, FORMAT - 1, FORMAT + 1, 99, -1])
def test_another_format_is_refused_by_number_with_a_remedy_whatever_else_it_holds(number: int, tmp_path: Path) -> None:
    later = b'{"format": %d, "invented": [1, {"later": null}]}' % number
    for content in (GOOD.replace(b'"format":%d' % FORMAT, b'"format":%d' % number), later):
        path = corrupt(content, tmp_path)
        text = f"{path}: has format {number}, this version reads format {FORMAT}: measure again, or read it at"
        with pytest.raises(ValueError, match=f"^{re.escape(text)} the commit that it names$"):
            read_record(path)


FOREIGN = (b"", b" \n", b"null", b"[]", b"{}", b"iter: 10", b"\x89PNG\r\n\x1a\n", GOOD + GOOD, b'{"a":' * 50_000)
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


def test_truncated_or_foreign_file_is_refused_with_its_name(tmp_path: Path) -> None:
    for content in (*FOREIGN, *(GOOD[:end] for end in range(len(GOOD) - 1, 0, -7))):
        path = corrupt(content, tmp_path)
        with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: "):
            read_record(path)


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
    "figures of other ranks": ("measured", "rank_figures", {"data, ms": [1.0, 2.0, 3.0]}),
    "a step without work": ("measured", "flops", {"image_forward": 0, "text_forward": 0, "forward": 0, "step": 0}),
    "more steps than there can be": ("experiment", "steps_per_window", 10**30),
    "tokens below 0": ("measured", "tokens_per_caption", -1.0),
    "parameters below 0": ("measured", "trained_parameters", -1),
    "0 processes": ("circumstances", "processes", 0),
    "0 threads": ("circumstances", "threads", 0),
    "a date that is none": ("circumstances", "started_at", "2026-13-45T00:00:00"),
    "100,000 readings": ("measured", "utilisation", {f"reading {number}": 1.0 for number in range(100_000)}),
}


@pytest.mark.parametrize("what", [*IMPOSSIBLE, "no experiment", "a key twice"])
def test_impossible_record_is_refused_with_its_file_name(what: str, tmp_path: Path) -> None:
    document = json.loads(msgspec.json.encode(speed()))
    if what == "no experiment":
        document["experiment"] = None
    elif what in IMPOSSIBLE:
        part, field, value = IMPOSSIBLE[what]
        document[part][field] = value
    content = json.dumps(document).encode()
    if what == "a key twice":
        content = content.replace(b'"round": 1', b'"round": 1, "round": 2')
    path = corrupt(content, tmp_path)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: "):
        read_record(path)


@pytest.mark.parametrize("read", [read_record, lambda path: read_vocabulary.__wrapped__(str(path))])
def test_file_that_would_block_is_refused(read: Callable[[Path], object], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "c.speed.pipe.json")
    for path in (tmp_path / "c.speed.pipe.json", Path("/dev/zero")):
        with pytest.raises(ValueError, match=r"not a regular file|no vocabulary"):
            read(path)


def test_corrupted_file_is_not_skipped_and_missing_file_is_named(tmp_path: Path) -> None:
    write_record(failed(), tmp_path / NAME)
    path = corrupt(GOOD[:50], tmp_path)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        read_records(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"c\.none\.json"):
        read_record(tmp_path / "c.none.json")


# Where a record lies


NAMES = st.lists(st.text(st.characters(), max_size=20), min_size=1, max_size=3)  # lone surrogates among them
PLAIN = st.from_regex(r"[A-Za-z0-9=+,_-]{1,12}", fullmatch=True)
SETTINGS = ",".join(f"{field}={get_field(TINY, field)}" for field in FIELDS)
HOSTILE: list[object] = [
    *("../../etc/passwd", "/etc/passwd", ".", "..", "~", "$HOME", "*?[", "", " ", "-", "\0", "\n", "a\n", "a b"),
    *("data/v1", "data-v1", "data.v1", "data v1", "data/v1/", "-data/v1", "größe", "gräße", "gr-e", "gr--e", "é", "ü"),
    "a/b\\c",
    *(SETTINGS, SETTINGS[:-1], SETTINGS + "0", SETTINGS[:80], "a" * 80, "a" * 81, "a" * 999, 1, -1, "1 ", *EXPERIMENTS),
]


def lay(results: Path, comparison: str, *names: object) -> Record:
    record = failed(comparison=comparison, reason=" ".join(map(repr, names)))
    write_record(record, record_path(results, comparison, "speed", *names))
    return record


def test_hostile_names_become_distinct_plain_file_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    laid = [lay(tmp_path, "c", name, round_) for name in HOSTILE for round_ in (0, 1)]
    found = read_records(tmp_path, "c")
    assert len(laid) == len(found) == len(contents(tmp_path))
    assert all(record in found for record in laid)


@laws
@given(st.text(max_size=20), NAMES, NAMES)
def test_arbitrary_names_become_distinct_plain_file_names(kind: str, one: list[str], two: list[str]) -> None:
    paths = [record_path(Path("results"), "2026-01-01", kind, *names) for names in (one, two)]
    assert (paths[0] == paths[1]) == (one == two)
    assert paths[0].parent == Path("results")
    assert re.fullmatch(r"2026-01-01(\.[A-Za-z0-9=+,_-]+)+\.json", paths[0].name)
    assert paths[0].name.count(".") == 2 + len(one)


@laws
@given(st.lists(PLAIN, min_size=1, max_size=3))
def test_plain_name_is_kept_in_the_file_name(names: list[str]) -> None:
    assert record_path(Path(), "c", "speed", *names).name == f"c.speed.{'.'.join(names)}.json"


@pytest.mark.parametrize("comparison", ["", "../c", "a/b", "a.b", "[ab]", "*", "c\n", "größe"])
def test_comparison_name_must_be_plain(comparison: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"a comparison is named .*, got {re.escape(repr(comparison))}$"):
        record_path(tmp_path, comparison, "speed", "clip-tiny", 0)


def test_comparisons_are_listed_once_oldest_first_and_read_alone_in_the_order_of_names(tmp_path: Path) -> None:
    runs = [("2026-03-01", "a", 0), ("2026-01-01", "b", 0), ("2026-01-01", "a", 1), ("2026-01-01-b", "a", 0)]
    third, second, first, other = (lay(tmp_path, *run) for run in runs)
    assert comparisons(tmp_path) == ["2026-01-01", "2026-01-01-b", "2026-03-01"]
    assert read_records(tmp_path, "2026-01-01") == [first, second]
    assert read_records(tmp_path, "2026-01-01-b") == [other]
    assert read_records(tmp_path, "2026") == []
    assert read_records(tmp_path) == [other, first, second, third]  # "-" sorts before "."


def test_every_kind_of_record_is_read_and_no_other_file(tmp_path: Path) -> None:
    kinds = [*map(tag_of, KINDS)]
    for kind in kinds:
        write_record(failed(kind), record_path(tmp_path, "c", kind, "x"))
    json_files = ("figures.json", "c.json", "c.suites.json", "d.others.1.json", "speed.c.json", ".c.speed.x.json")
    for name in (*json_files, "index.html", "c.tower.safetensors", "c.speed.x.json.4711", ".5.part", "notes"):
        (tmp_path / name).write_text("half a rec", encoding="utf-8")
    (tmp_path / "cache").mkdir()
    assert read_records(tmp_path) == read_records(tmp_path, "c") == [failed(kind) for kind in sorted(kinds)]
    assert comparisons(tmp_path) == ["c"]
    for empty in (tmp_path / "cache", tmp_path / "not there"):
        assert read_records(empty) == []
        assert comparisons(empty) == []


def test_record_of_an_unknown_kind_is_read_and_kept_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "c.luck.x.json"
    content = {"kind": "luck", "odds": [1e5, {"a": None}], "more": 3}
    document = json.loads(msgspec.json.encode(failed())) | {"measured": content, "experiment": None}
    path.write_bytes(msgspec.json.format(json.dumps(document).encode(), indent=1))
    write_record(failed(), tmp_path / NAME)
    of_luck, other = read_records(tmp_path)
    assert isinstance(of_luck.measured, UnknownKind)
    assert of_luck.measured == content
    assert other == failed()
    assert comparisons(tmp_path) == ["c"]
    before = path.read_bytes()
    write_record(of_luck, path)
    assert path.read_bytes() == before
    document["circumstances"]["threads"] = 0
    path.write_text(json.dumps(document))
    assert read_records(tmp_path) == [failed()]  # its name alone does not make it a record


@pytest.mark.parametrize("path", sorted((ROOT / "tests" / "records").rglob("*.*.json")), ids=lambda path: path.name)
def test_kept_record_is_written_again_byte_for_byte(path: Path, tmp_path: Path) -> None:
    if is_record(path):
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


OTHER_EXPERIMENT: dict[str, Any] = {"method": "catlip", "seed": 1, "flip": False, "head_rows": 9, "betas": (0.9, 0.99)}
OTHER_PLACE: dict[str, Any] = {"machine": "an H100", "device": "cuda", "threads": 4, "packages": {"torch": "2.7.0"}}
OTHER_GPU: dict[str, Any] = {"gpu": {"power limit": "500 W", "ECC": None}}
OTHER_CIRCUMSTANCE: dict[str, Any] = OTHER_PLACE | OTHER_GPU | {"precision": "bf16", "compiled": True, "processes": 2}


def elsewhere(**changes: Any) -> Record:
    return failed(circumstances=replace(HERE, **changes))


def otherwise(**changes: Any) -> Record:
    return failed(experiment=change(TINY, **changes))


def test_comparable_records_may_differ_in_name_commit_time_and_package_order() -> None:
    named = failed(), failed("another reason"), failed(comparison="another"), otherwise(name="another")
    later = failed(), elsewhere(commit="fedcba9", started_at="2027-01-01")
    for rows in (named, later, [failed()], []):
        assert differences(*rows) == set()
    one, two = {"a": "1", "b": "2"}, {"b": "2", "a": "1"}
    assert differences(elsewhere(packages=one), elsewhere(packages=two)) == set()


@pytest.mark.parametrize("field", OTHER_EXPERIMENT)
def test_differing_experiment_field_is_named(field: str) -> None:
    rows = (failed(), otherwise(**{field: OTHER_EXPERIMENT[field]}), failed(experiment=None))
    assert differences(*rows) == {field}
    assert differences(*rows, may_differ=(field,)) == set()
    assert differences(*rows, may_differ=("windows", "machine")) == {field}


@pytest.mark.parametrize("circumstance", OTHER_CIRCUMSTANCE)
@pytest.mark.parametrize("experiment", [TINY, None])
def test_differing_circumstance_is_named_unless_explained_by_an_allowed_field(
    circumstance: str, experiment: Experiment | None
) -> None:
    there = replace(HERE, **{circumstance: OTHER_CIRCUMSTANCE[circumstance]})
    rows = [failed(experiment=experiment, circumstances=where) for where in (HERE, HERE, there)]
    explanation = {"precision": "precision", "compiled": "compile"}.get(circumstance)
    assert differences(*rows) == {circumstance}
    assert differences(*rows, may_differ={*FIELDS, *OTHER_CIRCUMSTANCE} - {explanation}) == {circumstance}
    assert differences(*rows, may_differ=FIELDS) == (set() if explanation else {circumstance})


def test_all_differences_are_reported_together_with_their_values() -> None:
    rows = [failed(), replace(otherwise(**OTHER_EXPERIMENT), circumstances=replace(HERE, **OTHER_CIRCUMSTANCE))]
    everything = {*OTHER_EXPERIMENT, *OTHER_CIRCUMSTANCE}
    assert differences(*rows) == everything
    assert differences(*rows, may_differ=("method", "seed", "compile")) == everything - {"method", "seed", "compiled"}
    with pytest.raises(ValueError, match=r"method: clip / catlip; .*machine: two cores / an H100"):
        require_comparable(rows, may_differ=())
