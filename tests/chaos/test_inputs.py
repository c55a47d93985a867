"""Each input of the tables ends as it has to."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.chaos.attacks import ATTACKS
from tests.chaos.case import Case, Limits, attack, violations
from tests.chaos.endless import ENDLESS
from tests.chaos.faults import FAULTS

HOSTILE, LARGE, ANY = (
    Limits(60.0, 1536.0, True),
    Limits(5.0, 600.0, True),
    Limits(60.0, 1024.0, False),
)
SLOW = ("attacks: tar", "endless: parquet", "endless: tar", "endless: weights")
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
    [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in TABLES],
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
