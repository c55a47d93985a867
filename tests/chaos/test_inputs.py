"""Each input of the tables ends as it has to, and what one violates is found."""

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pytest

from bench.console.console import OK, USAGE
from tests.chaos.attacks import ATTACKS
from tests.chaos.case import Case, Limits, attack, nothing, reading, violations
from tests.chaos.endless import ENDLESS
from tests.chaos.faults import FAULTS
from tests.chaos.payloads import pickle_payload, write_file

HOSTILE, LARGE, ANY = Limits(60.0, 1536.0, True), Limits(5.0, 600.0, True), Limits(60.0, 1024.0, False)
SLOW = ("attacks: tar", "endless: parquet", "endless: text", "endless: tar", "endless: weights")
TABLES: dict[str, tuple[Limits, Callable[[], Mapping[str, Case]]]] = {
    **{
        f"attacks: {kind}": (HOSTILE, lambda of=of: {name: attack(act) for name, act in of().items()})
        for kind, of in ATTACKS.items()
    },
    **{f"endless: {kind}": (LARGE, of) for kind, of in ENDLESS.items()},
    **{f"faults: {kind}": (ANY, of) for kind, of in FAULTS.items()},
}


@pytest.mark.usefixtures("decoded")
@pytest.mark.parametrize(
    "table", [pytest.param(name, marks=pytest.mark.minutes if name in SLOW else ()) for name in TABLES]
)
def test_input_is_answered_as_it_has_to_be_and_does_nothing_else(table: str, tmp_path: Path) -> None:
    limits, cases_of = TABLES[table]
    found = dict[str, list[str]]()
    for number, (name, case) in enumerate(cases_of().items()):
        (tmp_path / str(number)).mkdir()
        found[name] = violations(case, tmp_path / str(number) / "own", limits)
    assert not {name: wrong for name, wrong in found.items() if wrong}


def kinds_of(case: Case, folder: Path) -> list[str]:
    """What a case violates, without its figures."""
    folder.parent.mkdir()
    return [text.split(":")[0] for text in violations(case, folder, LARGE)]


def test_loss_a_wrong_exit_code_and_wrong_words_are_found(tmp_path: Path) -> None:
    def act(folder: Path) -> int:
        (folder / "mine").unlink()
        print("Traceback \x1b[2J")
        return 1

    case = Case(lambda folder: write_file(folder / "mine", b""), act, USAGE, "a reason")
    wrong = ["lost or changed", "exit code 1", "a traceback", "says", "control characters"]
    assert kinds_of(case, tmp_path / "a" / "own") == wrong
    assert not kinds_of(Case(nothing, lambda _: 0, OK), tmp_path / "b" / "own")


@pytest.mark.parametrize(
    ("act", "wrong"),
    [
        (lambda folder: pickle.loads(pickle_payload(folder)), ["starts", "its payload ran"]),
        (lambda folder: (folder.parent / "beside").write_text("x"), ["changes", "changed"]),
        (lambda folder: pa.OSFile(str(folder / ".." / "beside"), "wb").close(), ["changed"]),  # in C: no audit event
        (lambda _: Path("/etc/passwd").read_text() and None, []),
        (lambda _: int("x"), []),
    ],
)
def test_execution_and_writing_are_found(act: Callable[[Path], object], wrong: list[str], tmp_path: Path) -> None:
    assert kinds_of(attack(act), tmp_path / "a" / "own") == wrong


def test_input_that_is_neither_refused_nor_read_right_is_found(tmp_path: Path) -> None:
    taken = reading(lambda folder: folder, lambda _: True)
    wrong = reading(lambda folder: folder, lambda _: False, "read right")
    assert (taken.code, wrong.code) == (USAGE, OK)
    assert [kinds_of(case, tmp_path / str(case.code) / "own") for case in (taken, wrong)] == [
        ["exit code 0"],
        ["exit code 1"],
    ]
