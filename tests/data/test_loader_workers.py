"""Loader workers follow from cores, processes and images/s; a number that is asked for wins, and the record has it."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.config import Experiment
from bench.environment import cores
from bench.environment.cores import MAX_WORKERS, LoaderWorkers, available_cores, choose_workers
from bench.measure.tables import cost_table
from bench.record import Record
from bench.train.build import load_data, log_workers, resolve_workers, sample_counts
from tests.data.shards import write_shards
from tests.small import circumstances, small
from tests.speeds import speed

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
CORES, RANKS, RATES = st.integers(1, 512), st.integers(1, 16), st.floats(1, 1e6)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(CORES, RANKS, RATES, RATES)
def test_workers_suffice_or_are_all_that_the_cores_allow(cores: int, ranks: int, rate: float, per_core: float) -> None:
    chosen = choose_workers(cores, ranks, rate, per_core)
    spare = max(1, cores // ranks - 1)
    assert 1 <= chosen.count <= spare
    suffices, is_least = chosen.count * per_core >= rate, (chosen.count - 1) * per_core < rate
    assert is_least or chosen.count == 1
    assert suffices or chosen.count == spare
    assert chosen.count <= choose_workers(cores + ranks, ranks, rate, per_core).count
    assert choose_workers(cores, ranks, None).count == min(spare, MAX_WORKERS)


def test_reason_names_cores_processes_and_rates() -> None:
    assert choose_workers(16, 2, 3000.0, 1000.0) == LoaderWorkers(
        3, "16 cores, 2 training processes; up to 3,000 images/s need 3.0 cores at 1,000 images/s each"
    )
    assert choose_workers(16, 1, None).reason.endswith("the images/s of this GPU are not known")


def test_cores_are_those_of_affinity_and_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(12))
    for quota, expected in (("max 100000", 12), ("350000 100000", 3), ("50000 100000", 1), ("3200000 100000", 12)):
        (tmp_path / "cpu.max").write_text(quota)
        monkeypatch.setattr(cores, "CGROUP_QUOTA", tmp_path / "cpu.max")
        assert available_cores() == expected


def test_asked_number_wins_and_a_faster_training_has_more_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    def workers(name: str = "NVIDIA H100 80GB HBM3", **changes: object) -> int:
        monkeypatch.setattr("torch.cuda.get_device_name", lambda _: name)
        fields = {"data": "shards", "tower": "ViT-B-32", "image_size": 224, "precision": "auto", **changes}
        return resolve_workers(small("clip", **fields), GPU).count

    monkeypatch.setattr("bench.train.build.available_cores", lambda: 64)
    assert workers(workers=0) == 0
    assert workers(workers=7) == 7
    assert workers() > workers(tower="ViT-B-16") > workers(tower="ViT-B-16", precision="fp32") >= 1
    assert workers() > workers("NVIDIA L4")
    assert workers("an unknown GPU") == MAX_WORKERS
    assert resolve_workers(small("clip", data="shards"), CPU).count == 0


def test_record_log_and_table_have_the_workers_and_the_reason(
    tmp_path: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(write_shards(tmp_path / "data"))
    reasons = {3: "as the experiment asks for", 0: "a training on a CPU uses all cores"}
    for count, reason in reasons.items():
        stream = load_data(small("catlip", data=data, workers=count or "auto"), CPU, results)
        log_workers(stream)
        assert capsys.readouterr().err.endswith(f"catlip-tiny: {count} loader workers ({reason})\n")
        counts = sample_counts(stream)
        assert (counts["loader_workers"], counts["workers_reason"]) == (count, reason)
        fields = {"experiment": stream.experiment, "circumstances": circumstances(), "measured": speed(**counts)}
        timed = Record(comparison="c", **fields)
        (row,) = cost_table([timed], ["catlip-tiny"]).rows
        assert row.get("loader workers", 0) == count
    log_workers(pack := load_data(small("clip"), CPU, results))
    assert pack.workers == LoaderWorkers(0, "the pack is in memory")
    assert not capsys.readouterr().err


def test_older_experiments_of_the_pack_are_equal_to_those_of_today() -> None:
    fields = {field: getattr(small("clip"), field) for field in Experiment.__struct_fields__}
    assert Experiment(**fields | {"workers": 0}) == small("clip")
    assert small("clip", data="shards", workers=0) != small("clip", data="shards")
