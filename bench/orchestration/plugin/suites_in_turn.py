"""pytest's plugin of suites that take turns: a benchmark a turn. Any commit's suites load it, by `-p suites_in_turn`.

What a turn is stands in bench/environment/slots.py; it is loaded as a file, for `bench` is the other commit's.
"""

from collections.abc import Generator
from pathlib import Path
from runpy import run_path

import pytest

TURNS = run_path(str(Path(__file__).parents[2] / "environment" / "slots.py"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Wait until all are collected: the first turn is empty, so that nothing is timed while others still start."""
    TURNS["await_turn"]()
    TURNS["pass_on"]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Run a benchmark, with what it sets up, and let the others run theirs."""
    found = yield
    TURNS["pass_on"]()
    return found
