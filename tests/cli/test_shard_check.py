"""`doctor --shards` writes a manifest, and finds whatever is not as it says."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.__main__ import main
from bench.data.shards.facts import read_manifest
from tests.data.shards import write_shard, write_shards

BAD = "Faulty shards"


def doctor(data: Path, figures: Path) -> tuple[int, dict[str, str]]:
    """The exit code, and the fault of each faulty shard."""
    places = ["--shards", str(data), "--results", str(figures.with_name("results"))]
    code = main(["doctor", *places, "--loading-seconds", "0", "--json", str(figures)])
    rows = json.loads(figures.read_text())[BAD]["rows"]
    return code, {Path(row["shard"]).name: row["fault"] for row in rows}


def test_a_manifest_is_written_once_and_then_verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, figures = write_shards(tmp_path / "data"), tmp_path / "figures.json"
    assert doctor(folder / "*.tar", figures) == (0, {})
    written = (folder / "manifest.json").read_bytes()
    assert sum(facts.samples for facts in read_manifest(folder).shards.values()) == 36
    assert doctor(folder, figures) == (0, {})
    assert (folder / "manifest.json").read_bytes() == written
    (folder / "00000.tar").unlink()
    (folder / "00001.tar").write_bytes((folder / "00001.tar").read_bytes()[:-9000])
    write_shard(folder / "new.tar", {"a.jpg": b""})
    code, wrong = doctor(folder, figures)
    assert code == 1
    assert wrong.keys() == {"00000.tar", "00001.tar", "new.tar"}
    assert (wrong["00000.tar"], wrong["new.tar"]) == ("missing", "not in the manifest")
    assert (folder / "manifest.json").read_bytes() == written
    assert "00001.tar" in capsys.readouterr().out


def test_unreadable_shard_prevents_writing_a_manifest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_shards(tmp_path / "data")
    (folder / "00001.tar").write_bytes((folder / "00001.tar").read_bytes()[:5000])
    code, wrong = doctor(folder, tmp_path / "figures.json")
    assert code == 1
    assert wrong.keys() == {"00001.tar"}
    assert not (folder / "manifest.json").exists()
    capsys.readouterr()


@pytest.mark.parametrize("method", ["clip", "distill"])
def test_manifest_is_written_only_where_a_training_accepts_the_shards(
    method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a caption, images are enough for a teacher's student."""
    write_shard(tmp_path / "0.tar", {f"{n}.jpg": b"1" for n in range(12)})
    places = ["--shards", str(tmp_path), "--results", str(tmp_path / "results")]
    code = main(["doctor", *places, "--experiment", f"{method}-tiny", "--loading-seconds", "0"])
    assert (code, (tmp_path / "manifest.json").exists()) == (
        (2, False) if method == "clip" else (0, True)
    )
    capsys.readouterr()


@settings(
    derandomize=True,
    deadline=None,
    max_examples=10,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_every_bit_flip_is_detected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: st.DataObject
) -> None:
    folder = tmp_path / "data"
    if not folder.exists():
        assert doctor(write_shards(folder), tmp_path / "figures.json") == (0, {})
    shard = folder / data.draw(st.sampled_from(["00000.tar", "00001.tar", "00002.tar"]))
    whole = shard.read_bytes()
    flipped = bytearray(whole)
    flipped[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    shard.write_bytes(flipped)
    code, wrong = doctor(folder, tmp_path / "figures.json")
    shard.write_bytes(whole)
    assert code == 1
    assert wrong.keys() == {shard.name}
    capsys.readouterr()
