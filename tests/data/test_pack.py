"""The pack is decoded once, verified first."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from bench.data.manifest import PACK, decoded_part_path, verify_pack
from bench.data.pack import PackImages, load_pack_images


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


def test_bit_flip_is_detected_with_the_file_name(pack: Path, tmp_path: Path) -> None:
    shard = pack / "pretrain/flat-color-icons.tar.gz"
    content = bytearray(shard.read_bytes())
    content[1000] ^= 1
    shard.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"flat-color-icons.tar.gz is missing or corrupted.*git checkout"
    ):
        load_pack_images("pretrain", tmp_path / "cache", pack)
    shard.unlink()
    with pytest.raises(ValueError, match=r"flat-color-icons.tar.gz is missing"):
        verify_pack(pack)


def test_cached_images_equal_decoded_images(pack: Path, tmp_path: Path) -> None:
    first = load_pack_images("pretrain", tmp_path, pack)
    assert [*tmp_path.glob("*.safetensors")] == [decoded_part_path("pretrain", tmp_path, pack)]
    again = load_pack_images("pretrain", tmp_path, pack)
    assert torch.equal(first.premultiplied_rgba, again.premultiplied_rgba)
    assert (first.captions, first.classes, first.keys) == (
        again.captions,
        again.classes,
        again.keys,
    )
    assert len(first) == 327


def test_colour_is_premultiplied(images: PackImages) -> None:
    """No colour is larger than its alpha, so resampling cannot bring out what lies under transparent pixels."""
    some = images.premultiplied_rgba[::50].int()
    assert (some[:, :3] <= some[:, 3:]).all()


def test_keys_of_the_pack_are_distinct(images: PackImages) -> None:
    assert len(images) == len(images.captions) == len(set(images.keys)) == 11_979
