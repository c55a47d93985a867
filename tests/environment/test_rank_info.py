"""What torchrun tells a process of it."""

import pytest

from bench.environment import rank_info
from bench.environment.rank_info import RankInfo, describe_node


def test_node_has_torchruns_number_where_nodes_have_unequal_numbers_of_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GROUP_RANK", raising=False)
    monkeypatch.setattr(rank_info, "torchrun_env", lambda: RankInfo(3, 6, 1, 2))
    assert describe_node().endswith(", node 1")
    monkeypatch.setenv("GROUP_RANK", "2")  # after nodes of one process each
    assert describe_node().endswith(", node 2")
