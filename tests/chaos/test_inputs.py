"""Each input of the tables ends as it has to, and what one violates is found."""

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from bench.console.console import USAGE
from tests.chaos.attacks import ATTACKS
from tests.chaos.case import Case, Limits, attack, reading, violations
from tests.chaos.endless import ENDLESS
from tests.chaos.faults import FAULTS
from tests.chaos.payloads import pickle_payload, write_file

HOSTILE, LARGE, ANY = (
    Limits(60.0, 1536.0, True),
    Limits(5.0, 600.0, True),
    Limits(60.0, 1024.0, False),
)
SLOW = ("attacks: tar", "endless: parquet", "endless: text", "endless: tar", "endless: weights")
TABLES: dict[str, tuple[Limits, Callable[[], Mapping[str, Case]]]] = {
    **{
        f"attacks: {kind}": (
            HOSTILE,
            lambda of=of: {name: attack(act) for name, act in of().items()},
        )
        for kind, of in ATTACKS.items()
    },
    **{f"endless: {kind}": (LARGE, of) for kind, of in ENDLESS.items()},
    **{f"faults: {kind}": (ANY, of) for kind, of in FAULTS.items()},
}


@pytest.mark.usefixtures("decoded")
@pytest.mark.parametrize(
    "table",
    [pytest.param(name, marks=pytest.mark.minutes if name in SLOW else ()) for name in TABLES],
)
def test_input_is_answered_as_it_has_to_be_and_does_nothing_else(
    table: str, tmp_path: Path
) -> None:
    limits, cases_of = TABLES[table]
    found = dict[str, list[str]]()
    for number, (name, case) in enumerate(cases_of().items()):
        (tmp_path / str(number)).mkdir()
        found[name] = violations(case, tmp_path / str(number) / "own", limits)
    assert not {name: wrong for name, wrong in found.items() if wrong}


def loses(folder: Path) -> int:
    (folder / "mine").unlink()
    print("Traceback \x1b[2J")
    return 1


VIOLATIONS: dict[str, tuple[Case, list[str]]] = {
    "a loss, a wrong exit code and wrong words": (
        Case(lambda folder: write_file(folder / "mine", b""), loses, USAGE, "a reason"),
        ["lost or changed", "exit code 1", "a traceback", "says", "control characters"],
    ),
    "an execution": (
        attack(lambda folder: pickle.loads(pickle_payload(folder))),
        ["starts", "its payload ran"],
    ),
    "a write": (
        attack(lambda folder: (folder.parent / "beside").write_text("x")),
        ["changes", "changed"],
    ),
    "what is not refused": (reading(lambda folder: folder, lambda _: True), ["exit code 0"]),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_what_a_case_violates_is_found(name: str, tmp_path: Path) -> None:
    case, wrong = VIOLATIONS[name]
    assert [text.split(":")[0] for text in violations(case, tmp_path / "own", LARGE)] == wrong
