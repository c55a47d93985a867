"""Loader workers follow from cores, processes and images/s; a number that is asked for wins, and the record has it."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.environment import cores
from bench.environment.cores import (
    MAX_WORKERS,
    choose_num_loader_workers,
    count_available_cores,
)
from bench.train.build import resolve_num_loader_workers
from tests.small import small

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
CORES, RANKS = st.integers(1, 512), st.integers(1, 16)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(CORES, RANKS)
def test_workers_are_all_cores_but_one_of_each_process_up_to_a_bound(
    cores: int, ranks: int
) -> None:
    count = choose_num_loader_workers(cores, ranks)
    assert 1 <= count <= MAX_WORKERS
    assert count in (1, MAX_WORKERS) or (count + 1) * ranks <= cores < (count + 2) * ranks
    assert count <= choose_num_loader_workers(cores + ranks, ranks)


def test_cores_are_those_of_affinity_and_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(12))
    for quota, expected in (
        ("max 100000", 12),
        ("350000 100000", 3),
        ("50000 100000", 1),
        ("3200000 100000", 12),
    ):
        (tmp_path / "cpu.max").write_text(quota)
        monkeypatch.setattr(cores, "CGROUP_QUOTA", tmp_path / "cpu.max")
        assert count_available_cores() == expected


def test_asked_number_wins_and_a_training_on_a_cpu_has_no_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bench.train.build.count_available_cores", lambda: 16)
    for asked, count in ((0, 0), (7, 7), ("auto", 15)):
        inputs = small("clip", data="shards", workers=asked).input
        assert resolve_num_loader_workers(inputs, GPU) == count
    assert resolve_num_loader_workers(small("clip", data="shards").input, CPU) == 0
