"""`doctor --shards` times the loading on one core and says how many cores the GPUs need."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.__main__ import main
from bench.cli.loading_check import GpuRate, check_loading
from bench.environment.cores import available_cores
from bench.measure.loading import MIN_BATCHES, TIMED_BATCH, time_loading
from tests.data.shards import write_shard, write_shards
from tests.small import small


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("data"))


def doctor(shards: Path, results: Path, *options: str) -> tuple[int, list[dict[str, Any]], str]:
    """The exit code, the rows of the table and its note."""
    figures = results / "doctor.json"
    folders = ["--results", str(results), "--json", str(figures)]
    code = main(
        ["doctor", "--shards", str(shards), "--experiment", "catlip-tiny", *folders, *options]
    )
    found = json.loads(figures.read_text()).get("Loading", {"rows": [], "note": ""})
    return code, found["rows"], found["note"]


def test_cores_needed_are_the_images_of_all_gpus_over_those_of_a_core(
    shards: Path, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.cli.loading_check.count_gpus", lambda: 2)
    code, (row,), note = doctor(shards, results, "--images-per-s", "1", "--loading-seconds", "0.1")
    assert code == 0
    assert 0 < row["low"] <= row["images/s per core"] <= row["high"]
    assert row["cores needed"] == pytest.approx(2 / row["images/s per core"])
    assert 0 < row["CPU share"] <= 1
    line = f": loading needs {row['cores needed']:.1f} cores ("
    assert line in note.splitlines()[0]
    free = max(0, available_cores() - 2)
    assert (
        f", and {free} of {available_cores()} are free beside the training: "
        in note.splitlines()[0]
    )
    assert f"catlip-tiny{line}" in capsys.readouterr().out
    monkeypatch.setattr("bench.cli.loading_check.available_cores", lambda: 16)
    for rate, verdict in ((0.001, "enough"), (1e9, "too few")):
        table = check_loading(small("clip", data=str(shards)), GpuRate(rate, "given"), results, 0.0)
        assert table.rows[0]["verdict"] == verdict
        assert table.rows[0]["workers"] == (1 if verdict == "enough" else 7)


def test_cores_are_not_judged_without_the_rate_of_a_gpu(
    shards: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.cli.loading_check.count_gpus", lambda: 0)
    code, (row,), note = doctor(shards, results, "--loading-seconds", "0.1")
    assert code == 0
    assert row["images/s per core"] > 0
    assert "verdict" not in row
    assert (
        "the cores needed are not known (no GPU of a known data sheet: give --device NAME" in note
    )


def test_faulty_shards_are_not_loaded(results: Path, tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "data")
    (folder / "00001.tar").write_bytes((folder / "00001.tar").read_bytes()[:5000])
    assert main(["doctor", "--shards", str(folder), "--results", str(results)]) == 2


def test_loading_is_timed_in_one_thread_for_the_seconds_given(shards: Path, results: Path) -> None:
    threads = torch.get_num_threads()
    short = time_loading(small("clip", data=str(shards)), results, 0.0)
    assert short.images == MIN_BATCHES * TIMED_BATCH
    assert time_loading(small("clip", data=str(shards)), results, 0.5).images >= short.images
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--images-per-s", "0"], "--images-per-s must be from 0.001 to 1e+09, got 0.0"),
        (["--loading-seconds", "-1"], "--loading-seconds must be from 0 to 1e+06, got -1.0"),
        (["--device", "h1000"], "no device named 'h1000'; did you mean 'h100'?"),
        (
            ["--device", "h100", "--images-per-s", "9"],
            "--device and --images-per-s both give the images/s of a GPU",
        ),
        (["--experiment", "clip-small"], "no experiment named 'clip-small'"),
        (["--set", "jpeg_decoding=half"], "--set jpeg_decoding=half: Invalid enum value 'half'"),
    ],
)
def test_wrong_option_is_refused_in_one_line(
    options: list[str],
    message: str,
    shards: Path,
    results: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["doctor", "--shards", str(shards), "--results", str(results), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize(
    "option", [["--experiment", "clip-tiny"], ["--images-per-s", "9"], ["--set", "seed=1"]]
)
def test_option_of_shards_is_refused_without_shards(
    option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", *option]) == 2
    assert (
        f"error: {option[0]} is for --shards: add it, or leave out {option[0]}"
        in capsys.readouterr().err
    )


def test_shards_without_a_usable_image_are_one_line(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_shard(
        tmp_path / "s.tar", {f"{n}.{s}": b"?" for n in range(3) for s in ("jpg", "txt")}
    )
    assert (
        main(["doctor", "--shards", str(data), "--results", str(results), "--images-per-s", "9"])
        == 2
    )
    assert "no image can be used of " in capsys.readouterr().err.splitlines()[-1]
