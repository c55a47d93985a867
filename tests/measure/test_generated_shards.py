"""Generated shards are read as any others, and are made once."""

from pathlib import Path

import pytest

from bench.measure import generated_shards
from bench.measure.generated_shards import main
from tests.data.shards import open_shards


def test_generated_shards_hold_different_images_and_captions_and_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generated_shards, "IMAGES_PER_SHARD", 4)
    main(tmp_path / "shards", 6)
    assert capsys.readouterr().out.startswith("6 JPEGs of 512 pixels a side")
    paths = sorted((tmp_path / "shards").iterdir())
    assert [path.name for path in paths] == ["00000000-of-00000006.tar", "00000004-of-00000006.tar"]
    samples = open_shards(str(tmp_path / "shards"), tmp_path / "cache")
    images = [samples.image(row) for row in range(len(samples))]
    assert len({*images}) == 6
    assert len({samples.caption(row) for row in range(6)}) > 3
    assert all(30_000 < len(image) < 120_000 for image in images)  # as photographs of 512 pixels
    before = [path.stat().st_mtime_ns for path in paths]
    main(tmp_path / "shards", 6)
    assert [path.stat().st_mtime_ns for path in paths] == before
    with pytest.raises(ValueError, match=r"-of-00000006\.tar is not of 7 images"):
        main(tmp_path / "shards", 7)
