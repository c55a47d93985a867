"""`doctor` under torchrun: links within and between nodes, and what ranks must have in common."""

from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace

import bench.environment.rank_info as rank_info_module
import bench.measure.link_speed as link_speed_module
import bench.measure.rank_states as rank_states_module
from bench.cli.findings import DIFFERS, DISTURBS, FINDING_OK, MISSING, UNKNOWN
from bench.cli.rank_checks import LINKS, judge_ranks, link_table
from bench.console.console import OK
from bench.environment.rank_info import RankInfo
from bench.measure.link_speed import measure_links
from bench.measure.rank_states import read_rank_states
from bench.records.record import LinkSpeed, RankState, RankStates, read_records
from tests.processes import LONGEST_SECONDS, InProcess, in_ranks, start_ranks

NODES, ON_NODE = 2, 2
RANKS, SIZE = NODES * ON_NODE, 1 << 20
Found = tuple[LinkSpeed, RankStates, RankStates]


def of_two_folders(rank: int, ranks: int, results: Path) -> Found:
    """The links of two nodes, and their states with a folder that they share and with one for each node."""
    info = RankInfo(rank, ranks, rank % ON_NODE, ON_NODE)
    own = results / f"node {rank // ON_NODE}"
    with pytest.MonkeyPatch.context() as patch:
        for module in (link_speed_module, rank_states_module, rank_info_module):
            patch.setattr(module, "torchrun_env", lambda: info)
        shared = read_rank_states(results)
        patch.setattr(rank_states_module, "LISTING_SECONDS", 0.1)
        return measure_links(SIZE, torch.device("cpu")), shared, read_rank_states(own)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    folder = tmp_path_factory.mktemp("ranks")
    of_ranks = in_ranks(of_two_folders, RANKS, folder, folder / "results")
    assert of_ranks == [of_ranks[0]] * RANKS
    assert not [*folder.glob("results/.shared*"), *folder.glob("results/*/.shared*")]
    return of_ranks[0]


def test_links_within_and_between_nodes_are_measured(found: Found) -> None:
    link, states, _ = found
    assert (link.backend, link.message_bytes, link.processes_per_node) == ("gloo", SIZE, ON_NODE)
    assert all(1e6 < (speed or 0) < 1e12 for speed in (link.bytes_per_second, link.network_bytes_per_second))
    assert all(1e-7 < (latency or 0) < 1 for latency in (link.latency_seconds, link.network_latency_seconds))
    assert link.slowest_node in {one.node for one in states.ranks}
    assert [row["link"] for row in link_table(link, Path("x")).rows] == ["within nodes", "between nodes"]


def test_shared_and_separate_folders_are_distinguished(found: Found) -> None:
    _, shared, separate = found
    assert all(one.visible_after_seconds is not None and one.sees_rank0_lock for one in shared.ranks)
    assert [one.verdict for one in judge_ranks(shared.ranks)] == [FINDING_OK] * 7
    assert [one.visible_after_seconds is None for one in separate.ranks] == [False, False, True, True]
    bad, locks = (one for one in judge_ranks(separate.ranks) if one.verdict != FINDING_OK)
    assert (bad.check, bad.verdict, locks.check, locks.verdict) == ("results folder", MISSING, "locks", UNKNOWN)
    assert separate.ranks[2].node in bad.found
    assert separate.ranks[0].node not in bad.found


@pytest.mark.parametrize(
    ("changes", "check", "verdict", "text"),
    [
        ({"packages": {"torch": "2.12"}}, "packages", DIFFERS, "torch 2.13; rank 3 (b, node 1): torch 2.12"),
        ({"processors": "A100"}, "processors", DIFFERS, "H100; rank 3 (b, node 1): A100"),
        ({"commit": "1234"}, "commit", DIFFERS, "abcd; rank 3 (b, node 1): 1234"),
        ({"clock_ahead_seconds": -1.5}, "clocks", DISTURBS, "-1.500 s at most"),
        ({"visible_after_seconds": None}, "results folder", MISSING, "not seen on b, node 1"),
        ({"sees_rank0_lock": None}, "locks", UNKNOWN, "not tried on b, node 1"),
        ({"visible_after_seconds": 3.04}, "results folder", FINDING_OK, "after 3.0 s at most"),
        ({"sees_rank0_lock": False}, "locks", MISSING, "does not hold on b, node 1"),
    ],
)
def test_what_one_rank_has_otherwise_is_named_with_its_node(
    changes: dict[str, Any], check: str, verdict: str, text: str
) -> None:
    usual = RankState(
        node="a, node 0",
        processors="H100",
        packages={"torch": "2.13"},
        commit="abcd",
        clock_ahead_seconds=0.001,
        visible_after_seconds=0.0,
        sees_rank0_lock=True,
    )
    other = replace(usual, node="b, node 1")
    assert {one.verdict for one in judge_ranks([usual, usual, other, other])} == {FINDING_OK}
    found = {one.check: one for one in judge_ranks([usual, usual, other, replace(other, **changes)])}
    assert found[check].verdict == verdict
    assert text in found[check].found
    assert {one.verdict for name, one in found.items() if name != check} == {FINDING_OK}


def test_doctor_of_several_ranks_leaves_its_records_and_no_other_file(tmp_path: Path) -> None:
    for one in (ranks := start_ranks(2, tmp_path, "doctor", "--results", str(tmp_path), runner=InProcess)):
        one.join(LONGEST_SECONDS)
    printed, of_rank_1 = ((tmp_path / f"{rank}.log").read_text() for rank in range(2))
    assert [one.exitcode for one in ranks] == [OK, OK], printed
    assert "Ranks of this job" in printed
    assert "Ranks" not in of_rank_1
    link, states = read_records(tmp_path / LINKS)
    assert isinstance(link.measured, LinkSpeed)
    assert isinstance(states.measured, RankStates)
    assert link.measured.network_bytes_per_second is None
    for record, kind in ((link, "link"), (states, "ranks")):
        assert (record.experiment, record.circumstances.processes) == (None, 2)
        assert (tmp_path / LINKS / f"{record.comparison}.{kind}.2.json").is_file()
    assert len([path for path in (tmp_path / LINKS).iterdir() if not path.name.startswith(".")]) == 2
