"""Results that are packed into one file, and drawn elsewhere."""

import shutil
import tarfile
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.features.gpu import verb
from bench.features.gpu.verb import pack_results
from reports.__main__ import main as report

KEPT = Path(__file__).parents[2] / "records"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder of steps: records, a page, output, a tower, caches and a trace."""
    folder = tmp_path / "gpu"
    (folder / "b16").mkdir(parents=True)
    for path in KEPT.glob("*.speed.*.json"):
        shutil.copy(path, folder / "b16")
    (folder / "gpu.json").write_text("{}")
    (folder / "b16.log").write_text("output")
    for name in (
        "b16/x.tower.safetensors",
        "b16/cache/index.json",
        "b16/.x.lock",
        "shards/0.tar",
        "b16/c.trace.json.gz",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    return folder


def test_unpacked_results_give_the_same_page(results: Path, tmp_path: Path) -> None:
    assert main(["gpu", "--results", str(results), "--pack-results", str(tmp_path / "hour.tar.gz")]) == 0
    away = tmp_path / "away"
    with tarfile.open(tmp_path / "hour.tar.gz") as tar:
        tar.extractall(away, filter="data")
    assert (away / "gpu" / "b16.log").read_text() == "output"
    pages = [tmp_path / f"{number}.html" for number in range(2)]
    for folder, page in zip((results, away / "gpu"), pages, strict=True):
        assert report(["build", str(folder / "b16"), "--out", str(page)]) == 0
    first, second = (page.read_text() for page in pages)
    assert first == second.replace(str(away), str(tmp_path))  # the commands on a page name its folder


def test_towers_caches_and_shards_stay_behind(results: Path, tmp_path: Path) -> None:
    count = pack_results(results, tmp_path / "hour.tar.gz")
    with tarfile.open(tmp_path / "hour.tar.gz") as tar:
        names = tar.getnames()
    assert len(names) == count
    assert {"gpu/gpu.json", "gpu/b16.log", "gpu/b16/c.trace.json.gz"} <= {*names}
    assert not [name for name in names if "cache" in name or name.endswith((".safetensors", ".tar", ".lock"))]


def test_packing_that_is_interrupted_leaves_the_file_as_it_was(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "hour.tar.gz"
    pack_results(results, file)
    before = file.read_bytes()
    monkeypatch.setattr(verb.tarfile.TarFile, "add", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        pack_results(results, file)
    assert file.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"gpu", "hour.tar.gz"}


def test_folder_without_steps_is_not_packed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gpu", "--results", str(tmp_path / "r"), "--pack-results", str(tmp_path / "x.tar.gz")]) == 2
    assert "has no gpu.json: name the folder of the steps with --results" in capsys.readouterr().err
