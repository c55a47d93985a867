"""JSON that others made is never too much, and what is wrong with it is a ValueError."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.environment.files import decode_json, read_bytes_unless_larger
from bench.labels.vocabulary import read_vocabulary
from bench.records.record import read_record
from bench.towers.head_file import read_label_classifier
from bench.towers.provenance import TowerProvenance, read_tower_provenance
from bench.train.checkpoints import read_checkpoint_metadata


def test_file_is_read_fully_or_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b"[1, 2]")
    assert read_bytes_unless_larger(path, 6) == b"[1, 2]"
    with pytest.raises(ValueError, match=r"x\.json: larger than"):
        read_bytes_unless_larger(path, 5)
    (tmp_path / "kernel.json").symlink_to("/proc/kallsyms")  # a file that says that it has no bytes
    with pytest.raises(ValueError, match=r"kernel\.json: larger than"):
        read_bytes_unless_larger(tmp_path / "kernel.json", 5)
    with pytest.raises(ValueError, match="/dev/zero: not a regular file"):
        read_bytes_unless_larger(Path("/dev/zero"), 2**20)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b'"\xff"', b'{"x":' + b"[" * 100_000, b"NaN", b"[1]"]
)
def test_json_of_another_type_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_json(content, TowerProvenance)


def test_a_file_of_eight_gigabytes_is_never_read(tmp_path: Path) -> None:
    """Wherever JSON of others is read; the file is a hole."""
    sizes = {"r.json": 128}
    places = {
        tmp_path / "v.json": lambda path: read_vocabulary(str(path)),
        tmp_path / "state.json": lambda path: read_checkpoint_metadata(path.parent),
        tmp_path / "r.json": read_record,
    }
    for path, read in places.items():
        with path.open("wb") as file:
            file.truncate(2**33)
        with pytest.raises(ValueError, match=f"larger than {sizes.get(path.name, 256)} MiB"):
            read(path)


DAMAGED: dict[str, tuple[str, bytes, Callable[[Path], object], str]] = {
    "a head": (
        "t.head",
        b"half",
        lambda path: read_label_classifier(path.with_suffix(".safetensors")),
        "",
    ),
    "a tower": ("t.safetensors", b"half", read_tower_provenance, " is not a safetensors file"),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_damaged_file_is_refused_with_its_name(what: str, tmp_path: Path) -> None:
    name, content, read, text = DAMAGED[what]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        ValueError, match=re.escape(str(tmp_path / name)) + ".*" + re.escape(text)
    ) as raised:
        read(tmp_path / name)
    assert "\n" not in str(raised.value)
