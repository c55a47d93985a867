"""`doctor --shards` times the loading on one core and says how many cores the GPUs need."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.cli.doctor import measure_loading_and_predict_cores
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
    shards: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.cli.doctor.count_usable_gpus", lambda: 2)
    code, (row,), _ = doctor(shards, results, "--images-per-s", "1", "--loading-seconds", "0.1")
    assert code == 0
    assert 0 < row["low"] <= row["images/s per core"] <= row["high"]
    assert row["cores needed"] == pytest.approx(2 / row["images/s per core"])
    assert 0 < row["CPU share"] <= 1
    monkeypatch.setattr("bench.cli.doctor.count_available_cores", lambda: 16)
    for rate, verdict, workers in ((0.001, "enough", 1), (1e9, "too few", 7)):
        table = measure_loading_and_predict_cores(
            small("clip", data=str(shards)), rate, results, 0.0
        )
        assert (table.rows[0]["verdict"], table.rows[0]["workers"]) == (verdict, workers)


def test_cores_are_not_judged_without_the_rate_of_a_gpu(
    shards: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.cli.doctor.count_usable_gpus", lambda: 0)
    code, (row,), note = doctor(shards, results, "--loading-seconds", "0.1")
    assert code == 0
    assert row["images/s per core"] > 0
    assert "verdict" not in row
    assert "The cores needed are not known: give --images-per-s N" in note


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
