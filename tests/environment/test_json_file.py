"""JSON that others made is never too much, and what is wrong with it is a ValueError."""

from pathlib import Path

import pytest

from bench.data.shards.facts import read_manifest
from bench.environment.files import decode_json, read_limited
from bench.labels.vocabulary import read_vocabulary
from bench.record import read_record
from bench.towers.provenance import Provenance
from bench.train.checkpoints import read_state


def test_file_is_read_fully_or_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b"[1, 2]")
    assert read_limited(path, 6) == b"[1, 2]"
    with pytest.raises(ValueError, match=r"x\.json: larger than"):
        read_limited(path, 5)
    (tmp_path / "kernel.json").symlink_to("/proc/kallsyms")  # a file that says that it has no bytes
    with pytest.raises(ValueError, match=r"kernel\.json: larger than"):
        read_limited(tmp_path / "kernel.json", 5)
    with pytest.raises(ValueError, match="/dev/zero: not a regular file"):
        read_limited(Path("/dev/zero"), 2**20)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'"\xff"', b'{"x":' + b"[" * 100_000, b"NaN", b"[1]"])
def test_json_of_another_type_is_a_value_error(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_json(content, Provenance)


def test_a_file_of_eight_gigabytes_is_never_read(tmp_path: Path) -> None:
    """Wherever JSON of others is read; the file is a hole."""
    sizes = {"r.json": 16}
    places = {
        tmp_path / "manifest.json": lambda path: read_manifest(path.parent),
        tmp_path / "v.json": lambda path: read_vocabulary(str(path)),
        tmp_path / "state.json": lambda path: read_state(path.parent),
        tmp_path / "r.json": read_record,
    }
    for path, read in places.items():
        with path.open("wb") as file:
            file.truncate(2**33)
        with pytest.raises(ValueError, match=f"larger than {sizes.get(path.name, 256)} MiB"):
            read(path)
