"""Ranks on different machines, or with other packages, are refused."""

from pathlib import Path

import pytest

from bench.environment.rank_info import MIXED_MACHINES
from bench.train.distributed import require_equal_nodes
from tests.processes import in_ranks


def compared(rank: int, _ranks: int) -> list[str]:
    """Return the errors for ranks whose machines or packages differ, where that is allowed and where not."""
    errors = []
    for machine, packages, allowed in (
        ("m", "1", ""),
        (f"m{rank}", "1", ""),
        (f"m{rank}", "1", "1"),
        ("m", str(rank), "1"),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(MIXED_MACHINES, allowed)
            try:
                require_equal_nodes(machine, {"torch": packages})
                errors.append("")
            except ValueError as error:
                errors.append(str(error))
    return errors


def test_ranks_on_different_machines_are_refused_unless_allowed(tmp_path: Path) -> None:
    for errors in in_ranks(compared, 2, tmp_path):
        equal, mixed, allowed, packages = errors
        assert (equal, allowed) == ("", "")
        assert mixed.startswith("rank 1 runs on m1, and rank 0 on m0: ")
        assert f"{MIXED_MACHINES}=1 allows it" in mixed
        assert (
            packages
            == "rank 1 has other packages than rank 0 (torch 1, not 0): install equal ones on all nodes"
        )
    require_equal_nodes("m", {})  # of one process
