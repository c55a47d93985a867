"""What torchrun tells a process of it."""

import pytest

from bench.environment import torchrun_ranks
from bench.environment.torchrun_ranks import TorchrunRanks, describe_host_and_node_number


def test_node_has_torchruns_number_where_nodes_have_unequal_numbers_of_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GROUP_RANK", raising=False)
    monkeypatch.setattr(torchrun_ranks, "read_torchrun_ranks", lambda: TorchrunRanks(3, 6, 1, 2))
    assert describe_host_and_node_number().endswith(", node 1")
    monkeypatch.setenv("GROUP_RANK", "2")  # after nodes of one process each
    assert describe_host_and_node_number().endswith(", node 2")
