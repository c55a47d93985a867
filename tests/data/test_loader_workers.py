"""Loader workers follow from cores, processes and images/s; a number that is asked for wins, and the record has it."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.environment import cores
from bench.environment.cores import (
    MAX_WORKERS,
    LoaderWorkerPlan,
    choose_loader_workers,
    count_available_cores,
)
from bench.measure.comparison_records import select_comparable_experiment_records
from bench.measure.speed_tables import step_phase_table
from bench.records.record import Record
from bench.train.build import (
    log_loader_workers,
    make_sample_record_fields,
    open_batch_stream,
    resolve_loader_workers,
)
from tests.data.shards import write_shards
from tests.small import circumstances, small
from tests.speeds import speed

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
CORES, RANKS = st.integers(1, 512), st.integers(1, 16)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(CORES, RANKS)
def test_workers_are_all_cores_but_one_of_each_process_up_to_a_bound(
    cores: int, ranks: int
) -> None:
    count = choose_loader_workers(cores, ranks).count
    assert 1 <= count <= MAX_WORKERS
    assert count in (1, MAX_WORKERS) or (count + 1) * ranks <= cores < (count + 2) * ranks
    assert count <= choose_loader_workers(cores + ranks, ranks).count


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
        assert (
            resolve_loader_workers(small("clip", data="shards", workers=asked).input, GPU).count
            == count
        )
    assert resolve_loader_workers(small("clip", data="shards").input, CPU).count == 0


@pytest.mark.usefixtures("decoded")
def test_record_log_and_table_have_the_workers_and_the_reason(
    tmp_path: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(write_shards(tmp_path / "data"))
    reasons = {3: "as the experiment asks for", 0: "a training on a CPU uses all cores"}
    for count, reason in reasons.items():
        stream = open_batch_stream(
            small("catlip", data=data, workers=count or "auto"), CPU, results
        )
        log_loader_workers(stream)
        assert capsys.readouterr().err.endswith(f"catlip-tiny: {count} loader workers ({reason})\n")
        counts = make_sample_record_fields(stream)
        assert (counts["loader_workers"], counts["workers_reason"]) == (count, reason)
        fields = {
            "experiment": stream.experiment,
            "circumstances": circumstances(),
            "measured": speed(**counts),
        }
        timed = Record(comparison="c", **fields)
        (row,) = step_phase_table(
            select_comparable_experiment_records([timed], ["catlip-tiny"])
        ).rows
        assert row.get("loader workers", 0) == count
    log_loader_workers(pack := open_batch_stream(small("clip"), CPU, results))
    assert pack.workers == LoaderWorkerPlan(0, "the pack is in memory")
    assert not capsys.readouterr().err
