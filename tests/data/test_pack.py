"""The pack is decoded once, verified first."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from bench.data.manifest import PACK, pack_digest, verify_pack
from bench.data.pack import Pictures, load_pictures


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A copy of a part of the pack, with a manifest of its own."""
    folder = tmp_path / "pack"
    name = "pretrain/flat-color-icons.tar.gz"
    (folder / "pretrain").mkdir(parents=True)
    shutil.copy(PACK / name, folder / name)
    files = json.loads((PACK / "manifest.json").read_text())["files"]
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "files": {name: files[name]}}))
    return folder


def test_the_pack_is_what_was_shipped() -> None:
    verify_pack()


def test_a_flipped_bit_is_found_and_named(pack: Path, tmp_path: Path) -> None:
    shard = pack / "pretrain/flat-color-icons.tar.gz"
    content = bytearray(shard.read_bytes())
    content[1000] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ValueError, match=r"flat-color-icons.tar.gz is corrupted.*git checkout"):
        load_pictures("pretrain", tmp_path / "cache", pack)
    shard.unlink()
    with pytest.raises(ValueError, match=r"flat-color-icons.tar.gz is missing"):
        verify_pack(pack)


def test_pictures_come_back_from_the_cache_as_they_were_decoded(pack: Path, tmp_path: Path) -> None:
    first = load_pictures("pretrain", tmp_path, pack)
    assert [path.name for path in tmp_path.glob("*.safetensors")] == [f"pretrain-{pack_digest(pack)[:16]}.safetensors"]
    again = load_pictures("pretrain", tmp_path, pack)
    assert torch.equal(first.pixels, again.pixels)
    assert (first.captions, first.classes, first.keys) == (again.captions, again.classes, again.keys)
    assert len(first) == 327


def test_colour_is_premultiplied(pictures: Pictures) -> None:
    """No colour is larger than its alpha, so resampling cannot bring out what lies under transparent pixels."""
    some = pictures.pixels[::50].int()
    assert (some[:, :3] <= some[:, 3:]).all()


def test_the_pack_holds_11979_pairs(pictures: Pictures) -> None:
    assert len(pictures) == len(pictures.captions) == len(set(pictures.keys)) == 11_979
