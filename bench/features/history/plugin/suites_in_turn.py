"""pytest's plugin of interleaved suites: one benchmark per slot. Any commit's suites load it, by `-p suites_in_turn`.

Slots are described in bench/environment/slots.py; it is loaded as a file, for `bench` is the other commit's.
"""

from collections.abc import Generator
from pathlib import Path
from runpy import run_path

import pytest

INTERLEAVE = run_path(str(Path(__file__).parents[3] / "environment" / "slots.py"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Wait until all processes have collected: the first slot is empty, so nothing is timed while others start."""
    INTERLEAVE["wait_for_slot"]()
    INTERLEAVE["yield_and_wait_for_slot"]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Run a benchmark with its fixtures, then let the other processes run theirs."""
    result = yield
    INTERLEAVE["yield_and_wait_for_slot"]()
    return result
