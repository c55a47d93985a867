"""What is checked and prepared before the first run of a comparison."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec.structs import replace

from bench.__main__ import main
from bench.environment.circumstances import describe_current_commit
from bench.environment.torchrun_ranks import TorchrunRanks
from bench.experiment.config import FIELDS, change
from bench.experiment.experiments import EXPERIMENTS
from bench.orchestration import preflight, runs
from bench.orchestration.preflight import (
    begin_comparison,
    require_runnable_and_prepare_data,
    reserve_comparison_name,
)
from bench.records.record import record_path, write_record
from tests.data.shards import write_shards
from tests.orchestration.test_comparison import timed


def test_comparison_on_shards_decodes_nothing_of_the_pack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    experiment = change(EXPERIMENTS["clip-tiny"], data=str(write_shards(tmp_path / "shards")))
    require_runnable_and_prepare_data(tmp_path / "results", [experiment])
    assert not (tmp_path / "caches" / "catlip-bench").exists()


def test_subset_of_every_experiment_on_the_same_data_is_checked(tmp_path: Path) -> None:
    whole = change(EXPERIMENTS["clip-tiny"], data=str(write_shards(tmp_path / "shards")))
    part = change(whole, name="part", subset=str(tmp_path / "missing.csv"))
    with pytest.raises((ValueError, OSError), match=r"missing\.csv"):
        require_runnable_and_prepare_data(tmp_path / "results", [part, whole], may_differ=FIELDS)


@pytest.mark.parametrize(
    ("device", "driver", "reason"),
    [
        ("cuda", "580.1", ""),
        ("cuda", "570.2", r"TF32 off, not device cuda, driver 570\.2"),
        ("cpu", "580.1", "device cpu, driver 580.1, TF32 off, not device cuda, driver 580.1"),
    ],
)
def test_rounds_of_another_device_or_driver_are_not_continued(
    device: str, driver: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card of another UUID with equal settings is accepted: the page names its rounds."""
    experiment = EXPERIMENTS["clip-tiny"]
    record = timed(experiment, 1000.0, 0)
    where = replace(
        record.circumstances,
        commit=describe_current_commit(),
        device=device,
        gpu={"driver": "580.1", "TF32": "off"},
        gpu_uuid="another",
    )
    path = record_path(tmp_path, "20260101T000000-measure", "speed", "x")
    write_record(replace(record, comparison="20260101T000000-measure", circumstances=where), path)
    monkeypatch.setattr(preflight, "count_usable_gpus", lambda: 1)
    monkeypatch.setattr(preflight, "read_gpu_settings", lambda _: {"driver": driver})
    monkeypatch.setattr(preflight, "get_first_gpu_nvml_handle", lambda: None)
    if not reason:
        assert len(begin_comparison(tmp_path, "measure", [experiment], resume=True).records()) == 1
        return
    with pytest.raises(ValueError, match=f"{reason}: begin a new comparison without --resume"):
        begin_comparison(tmp_path, "measure", [experiment], resume=True)


def test_comparisons_begun_at_once_have_names_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        names = [*pool.map(lambda _: reserve_comparison_name(tmp_path, "smoke"), range(2))]
    assert len(set(names)) == 2
    assert all(re.fullmatch(r"\d{8}T\d{6}-smoke", name) for name in names)


@pytest.mark.usefixtures("decoded")
@pytest.mark.parametrize(
    ("experiment", "setting", "text"),
    [
        ("clip-tiny", "text_tower=ViT-B32", "open_clip has no model 'ViT-B32'; did you mean"),
        ("superclass-tiny", "subword_vocabulary=shipped-synsets", "is of the rule 'corenet'"),
        ("catlip-tiny", "subset=no.csv", "subset=no.csv: no such file"),
        ("distill-tiny", "teacher_tower=none.safetensors", "no tower file 'none.safetensors'"),
    ],
)
def test_setting_that_every_run_would_refuse_is_one_line_before_the_first_run(
    experiment: str, setting: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["measure", "--results"], ["train", "--out"]):
        verb, folder = words
        assert main([verb, experiment, "--set", setting, folder, str(tmp_path)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert text in line
    assert {path.name for path in tmp_path.iterdir()} <= {".lock"}


def test_subset_larger_than_the_pack_is_refused_before_the_first_run(
    own_results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_results / "keys.csv").write_text("key\nno such key\n")
    for subset, text in (
        ("random:20000", "the data set has 11,979 samples"),
        (own_results / "keys.csv", "no sample has"),
    ):
        words = ["measure", "catlip-tiny", "--set", f"subset={subset}"]
        assert main([*words, "--results", str(own_results)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert text in line


def test_settings_that_need_whole_weights_are_refused_over_sharded_processes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for module in (preflight, runs):
        monkeypatch.setattr(module, "read_torchrun_ranks", lambda: TorchrunRanks(0, 2, 0, 2))
    for field, value in (
        ("ema_decay", 0.9),
        ("log_recomputed_grad_norm", True),
        ("optimizer", "muon"),
    ):
        sharded = change(EXPERIMENTS["clip-tiny"], sharding="fsdp2", **{field: value})
        with pytest.raises(ValueError, match=f"clip-tiny: {field}(=muon)? needs sharding=ddp"):
            require_runnable_and_prepare_data(tmp_path, [sharded])
