"""Inputs that would block, or take time or memory without end: what each is, and what is expected of its reader."""

import io
import json
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import PngImagePlugin

from bench.data.captions.files import read_caption_batches
from bench.data.decoding import decode_image
from bench.labels.vocabulary import read_vocabulary
from bench.records.record import read_records
from bench.train.checkpoints import find_latest_valid_checkpoint
from bench.transfer.tasks.image_sources import EncodedImageSource
from models.checkpoint import read_weights
from tests.chaos.case import Case, reading
from tests.chaos.payloads import write_file
from tests.data.shards import encode_image, make_image, open_shards

MIB = 2**20
NAME = "20260101T000000-x.speed.a.json"
RECORDS = Path(__file__).parents[1] / "records"
BLOCK = tarfile.BLOCKSIZE


def pipe(name: str) -> Callable[[Path], Path]:
    """Return what writes a pipe."""

    def write(folder: Path) -> Path:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(folder / name)
        return folder / name

    return write


def link(name: str, to: str) -> Callable[[Path], Path]:
    """Return what writes a link."""

    def write(folder: Path) -> Path:
        (folder / name).symlink_to(to)
        return folder / name

    return write


def pipes() -> dict[str, Case]:
    """Return pipes, devices and folders in places of files."""

    return {
        "a pipe among records": reading(pipe(NAME), lambda path: read_records(path.parent)),
        "a pipe for an image": reading(
            pipe("a.jpg"), lambda path: EncodedImageSource([path]).rgb(0)
        ),
        "a link to /dev/zero for an image": reading(
            link("a.jpg", "/dev/zero"), lambda path: EncodedImageSource([path]).rgb(0)
        ),
        "a pipe in a checkpoint": reading(_checkpoint_with_a_pipe, find_latest_valid_checkpoint),
    }


def _checkpoint_with_a_pipe(folder: Path) -> Path:
    step = folder / "checkpoints" / "step-00000005"
    step.mkdir(parents=True)
    os.mkfifo(step / "state.json")
    return step.parent


def _read_all(path: Path) -> int:
    return sum(len(batch) for batch in read_caption_batches(path, None))


def parquets() -> dict[str, Case]:
    """Return small parquet files that decode to much, and columns that are ambiguous."""

    def write(folder: Path) -> Path:
        same, long = pa.array(np.zeros(65_536, np.int32)), pa.array(["x" * 490_000])
        table = pa.table({"caption": pa.DictionaryArray.from_arrays(same, long)})
        pq.write_table(table, folder / "a.parquet", compression="zstd", store_schema=False)
        return folder / "a.parquet"

    return {"one caption of 490 kB, 65,536 times": reading(write, _read_all)}


def _header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def _pax(records: dict[str, str], kind: bytes = tarfile.XHDTYPE) -> bytes:
    header: bytes = tarfile.TarInfo._create_pax_generic_header(records, kind, "utf-8")  # type: ignore[attr-defined]
    return header


def tars() -> dict[str, Case]:
    """Return tars whose headers lead backwards, extend each other, or claim much."""
    text, end = _header("a.txt", 5) + b"a dog".ljust(BLOCK, b"\0"), bytes(2 * BLOCK)

    def tar(*parts: bytes, hole: int = 0) -> Case:
        def write(folder: Path) -> Path:
            path = write_file(folder / "a.tar", b"".join(parts))
            if hole:
                with path.open("r+b") as file:
                    file.truncate(hole)
            return path

        return reading(write, _read_all)

    def large_image(folder: Path) -> Path:
        path = write_file(folder / "a.tar", text + _header("a.jpg", 2**33))
        with path.open("r+b") as file:
            file.truncate(2**33 + 4 * BLOCK + len(end))
        return path

    return {
        "a long name of 8 GiB": tar(
            _header("x", 2**33, tarfile.GNUTYPE_LONGNAME), hole=2**33 + 2**20
        ),
        "a member of -1,024 bytes": tar(text, _header("b.txt", -1024), text, end),
        "a member that leads backwards by pax": tar(
            text, _pax({"size": "-2560"}), _header("b.txt", 5), text, end
        ),
        "a member of 10**30 bytes by pax": tar(text, _pax({"size": "9" * 30}), text, end),
        "an image of 8 GiB": reading(
            large_image,
            lambda path: not len(open_shards(str(path), path.parent / "cache")),
            "read right",
        ),
    }


def images() -> dict[str, Case]:
    """Return images of many parts."""
    image, jpeg = make_image(0, 1000, 1000), encode_image(make_image(0, 1000, 1000))
    progressive = encode_image(image, progressive=True)
    scan = b"\xff\xda" + struct.pack(">H", 8) + bytes([1, 1, 0, 1, 63, 0]) + bytes(8)
    first = progressive.index(b"\xff\xda", progressive.index(b"\xff\xda") + 2)
    notes = PngImagePlugin.PngInfo()
    for number in range(5000):
        notes.add_text(f"note {number}", "x" * 100)

    def segments(content: bytes, count: int, marker: int = 0xE1) -> bytes:
        segment = bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content
        return jpeg[:2] + segment * count + jpeg[2:]

    def encoded(content: bytes, expected: Literal["refused", "read right"] = "refused") -> Case:
        def read(path: Path) -> bool:
            return decode_image(path.read_bytes()).shape == (3, 1000, 1000)

        return reading(lambda folder: write_file(folder / "a.jpg", content), read, expected)

    return {
        "1,000 EXIF segments of 60 kB": encoded(segments(b"Exif\0\0" + bytes(60_000), 1000)),
        "3,000 scans": encoded(progressive[:first] + scan * 3000 + b"\xff\xd9"),
    }


def weights() -> dict[str, Case]:
    """Return weights that are larger than their file, or that are not in it."""
    saved = io.BytesIO()
    torch.save({"w": torch.zeros(1)}, saved)
    with zipfile.ZipFile(saved) as archive:
        (plain,) = (archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))
    one = b"K\x01\x85"  # the shape, and the stride, of the tensor

    def archived(
        pickled: bytes, data: bytes = bytes(4), compression: int = zipfile.ZIP_STORED
    ) -> Case:
        def write(folder: Path) -> Path:
            with zipfile.ZipFile(folder / "a.pt", "w", compression) as archive:
                for name, content in (("data.pkl", pickled), ("version", b"3\n"), ("data/0", data)):
                    archive.writestr(f"archive/{name}", content)
            return folder / "a.pt"

        return reading(write, read_weights)

    called = b"\x80\x02}X\x01\x00\x00\x00a"
    built = called + b"c__builtin__\nbytearray\n\x8a\x04\xff\xff\xff\x7f\x85Rs."
    overlapping = json.dumps(
        {n: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in "ab"}
    ).encode()
    tensors = struct.pack("<Q", len(overlapping)) + overlapping + bytes(4)
    return {
        "tensors that overlap": reading(
            lambda folder: write_file(folder / "a.safetensors", tensors), read_weights
        ),
        "zeros of 512 MiB in 0.5 MB": archived(plain, bytes(2**29), zipfile.ZIP_DEFLATED),
        "a pickle that asks for 2 GiB of bytes": archived(built),
        "a tensor of one value, 2**28 times": archived(
            plain.replace(one, b"J\x00\x00\x00\x10\x85", 1).replace(one, b"K\x00\x85", 1)
        ),
    }


def documents() -> dict[str, Case]:
    """Return records, vocabularies and documents of charts with more entries than any has."""

    def vocabulary(content: bytes) -> Case:
        return reading(
            lambda folder: write_file(folder / "v.json", content),
            lambda path: read_vocabulary.__wrapped__(str(path)),
        )

    head = b'{"rule":"corenet","captions":1,"labels":['
    return {
        "a vocabulary whose count has a million digits": vocabulary(
            head + b'{"key":"n1","name":"a","captions":1,"count":' + b"9" * 10**6 + b"}]}"
        ),
    }


ENDLESS: dict[str, Callable[[], dict[str, Case]]] = {
    "pipe or device": pipes,
    "parquet": parquets,
    "tar": tars,
    "image": images,
    "weights": weights,
    "JSON": documents,
}
