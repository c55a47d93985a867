"""Damaged and hostile files are read, or refused in short lines: without a signal, a long wait or much memory."""

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from bench.data.captions.choice import CaptionChoice
from bench.data.samples import open_source_samples
from bench.interfaces.data_source import SampleFieldsRequest
from bench.profilers.memory import PeakMemory
from tests.data.layouts import HF_IMAGE, Sample, write_saved_dataset
from tests.data.shards import encode_image, make_image, write_shard
from tests.processes import in_child

SECONDS, MEBIBYTES = 10.0, 800.0  # of a case
IMAGE = encode_image(make_image(0))
DEEP = "[" * 100_000
SAMPLES = [Sample(IMAGE, f"a dog {number}") for number in range(8)]
MANY = json.dumps([{"id": 1, "file_name": "0000.jpg"}] * 20_000)
MANY_CAPTIONS = json.dumps([{"image_id": 1, "caption": "a dog"}] * 20_000)

# What writes a file, and the pattern of its refusal or the number of samples that are read; None: as it likes.
Case = tuple[Callable[[Path], object], str | int | None]


def arrow(
    change: Callable[[bytearray, random.Random], object], seed: int = 0
) -> Callable[[Path], None]:
    """Return what writes a saved dataset whose first file is changed."""

    def write(folder: Path) -> None:
        path = write_saved_dataset(folder / "data", SAMPLES) / "data-00000-of-00002.arrow"
        content = bytearray(path.read_bytes())
        change(content, random.Random(seed))
        path.write_bytes(content)

    return write


def flip(content: bytearray, draw: random.Random) -> None:
    for _ in range(draw.randint(1, 4)):
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)


def strange_numbers(content: bytearray, draw: random.Random) -> None:
    """Write -1, 2**31 - 1 or 2**62 in places of 4 bytes, as offsets and lengths have."""
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(0, len(content) - 8, 4)
        number = draw.choice((-1, 2**31 - 1, 2**62))
        content[place : place + 8] = number.to_bytes(8, "little", signed=True)


def cut(content: bytearray, draw: random.Random) -> None:
    del content[draw.randrange(len(content)) :]


def table(columns: object, names: list[str]) -> Callable[[Path], None]:
    """Return what writes a saved dataset of one file with any columns."""

    def write(folder: Path) -> None:
        data = write_saved_dataset(folder / "data", SAMPLES)
        rows = pa.table(columns, names=names)
        for path in data.glob("*.arrow"):
            with pa.ipc.new_stream(path, rows.schema) as writer:
                writer.write_table(rows)

    return write


def state(text: str) -> Callable[[Path], object]:
    return lambda folder: (write_saved_dataset(folder / "data", SAMPLES) / "state.json").write_text(
        text
    )


IMAGES = pa.array([{"bytes": IMAGE, "path": None}] * 3, HF_IMAGE)
TEXTS = pa.array(["a dog"] * 3)
OUTSIDE = pa.DictionaryArray.from_arrays(pa.array([0, 99, 1], pa.int32()), TEXTS, safe=False)
ARROW: dict[str, Case] = {
    **{f"flipped {seed}": (arrow(flip, seed), None) for seed in range(4)},
    **{f"strange number {seed}": (arrow(strange_numbers, seed), None) for seed in range(4)},
    **{f"cut {seed}": (arrow(cut, seed), None) for seed in range(2)},
    "two columns of one name": (
        table([IMAGES, TEXTS, TEXTS], ["image", "caption", "caption"]),
        "2 columns are named 'caption'",
    ),
    "an index outside of its dictionary": (
        table([IMAGES, OUTSIDE], ["image", "caption"]),
        "arrow: ",
    ),
    "no rows": (table([IMAGES[:0], TEXTS[:0]], ["image", "caption"]), "no sample has a caption"),
    "a state without names": (state('{"_data_files": [{}]}'), "state.json: "),
    "a state nested deep": (state('{"_data_files": ' + DEEP), "state.json: "),
    "a state of a file elsewhere": (
        state('{"_data_files": [{"filename": "../../../etc/passwd"}]}'),
        "passwd",
    ),
}


def text(name: str, content: str | bytes) -> Callable[[Path], None]:
    """Return what writes a file beside eight images."""

    def write(folder: Path) -> None:
        (folder / "data").mkdir()
        for number in range(8):
            (folder / "data" / f"{number:04}.jpg").write_bytes(IMAGE)
        (folder / "data" / name).write_bytes(
            content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
        )

    return write


def coco(images: str, annotations: str) -> Callable[[Path], None]:
    return text("captions.json", f'{{"images": {images}, "annotations": {annotations}}}')


ONE = '[{"id": 1, "file_name": "0000.jpg"}]'
TABLES: dict[str, Case] = {
    "COCO with equal ids": (coco(MANY, MANY_CAPTIONS), "two images have the id 1"),
    "COCO with many captions of one image": (coco(ONE, MANY_CAPTIONS), 1),
    "COCO without ids": (
        coco('[{"file_name": "0000.jpg"}]', MANY_CAPTIONS),
        "missing required field `id`",
    ),
    "COCO nested deep": (coco(DEEP, "[]"), "a table that can be read"),
    "a JSON list of a million numbers": (text("a.json", "[" + "1," * 10**6 + "1]"), "missing: "),
    "a JSON list of objects, one nested deep": (
        text("a.json", f'[{{"image": "0000.jpg", "caption": "a dog"}}, {{"caption": {DEEP}'),
        "a table that can be read",
    ),
    "a JSON list that is not closed": (
        text("a.json", '[{"image": "0000.jpg", "caption": "a dog"},'),
        "a table that can be read",
    ),
    "a JSON list with half a surrogate pair": (
        text("a.json", '[{"image": "0000.jpg", "caption": "a \\ud83d dog", "score": NaN}]'),
        1,
    ),
    "a csv without a header": (
        text("a.csv", "0000.jpg,a dog\n0001.jpg,a cat and a dog\n"),
        "missing: ",
    ),
    "conversations that are an object": (
        text(
            "a.json", '[{"image": "0000.jpg", "conversations": {"from": "gpt", "value": "a dog"}}]'
        ),
        1,
    ),
    "a csv with two columns of one name": (
        text("a.csv", "image,caption,caption\n0000.jpg,a,b\n"),
        "2 columns are named 'caption'",
    ),
    "a csv with NUL": (text("a.csv", "image,caption\n0000.jpg,a\0dog\n0001.jpg\0,a cat\n"), None),
    "a csv with an open quotation mark": (
        text("a.csv", 'image,caption\n0000.jpg,"a dog\n'),
        "missing: ",
    ),
    "a csv with a line of 20 MB": (
        text("a.csv", "image,caption\n0000.jpg," + "a" * 20_000_000),
        "longer than 16 MiB",
    ),
    "a csv that names a device": (
        text("a.csv", "image,caption\n0000.jpg,a dog\n/dev/zero,a cat\n"),
        1,
    ),
    "a csv in UTF-16": (
        text("a.csv", "image,caption\n0000.jpg,a dog\n".encode("utf-16")),
        "missing: ",
    ),
    "a table between bars with an open quotation mark": (
        text("a.csv", 'image| n| comment\n0000.jpg| 0| "a dog\n'),
        1,
    ),
    "a text with a header and wrong rows": (
        text("captions.txt", "image,caption\n" + "0000.jpg,a,b,c\n" * 9 + "0001.jpg,a dog\n"),
        1,
    ),
    "a jsonl nested deep": (
        text("a.jsonl", '{"image": "0000.jpg", "caption": ' + DEEP + "\n"),
        "nested too deep",
    ),
    "a jsonl with a number of 5,000 digits": (
        text("a.jsonl", '{"image": "0000.jpg", "caption": "a dog", "n": ' + "9" * 5000 + "}\n"),
        "too long a number",
    ),
    "a caption of a folder of 20 MB": (text("caption.txt", "a" * 20_000_000), "longer than 16 MiB"),
    "a caption of a folder that is no object": (
        text("caption.json", "[]"),
        "no sample has a caption",
    ),
    "a caption that is a pipe": (
        lambda folder: (text("0000.jpg", IMAGE)(folder), os.mkfifo(folder / "data" / "0001.txt")),
        "not a regular file",
    ),
}


def tar(members: dict[str, bytes], tail: bytes = b"", size: int = 0) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        path = write_shard(folder / "data" / "0.tar", members)
        path.write_bytes(path.read_bytes() + tail)
        if size:
            os.truncate(path, size)

    return write


WHOLE = {"a.jpg": IMAGE, "a.txt": b"a dog"}
TARS: dict[str, Case] = {
    "zeros of 8 GiB after the end mark": (tar(WHOLE, size=2**33), 1),
    "a second archive after the end mark": (
        tar(WHOLE, b"a dog".ljust(512, b"\0")),
        "after its end mark",
    ),
    "images apart from captions": (
        tar({"a.jpg": IMAGE, "b.jpg": IMAGE, "a.txt": b"a", "b.txt": b"b"}),
        "that follow one another",
    ),
    "a description of 17 MiB": (
        tar({"a.jpg": IMAGE, "a.description": bytes(17 * 2**20)}),
        "longer than 16 MiB",
    ),
    "a sample of 2,000 texts": (
        tar({"a.jpg": IMAGE} | {f"a.{n}.txt": b"a dog " * 9000 for n in range(2000)}),
        "the texts of a are longer",
    ),
    "markup in place of a caption": (
        tar({"a.jpg": IMAGE, "a.xml": b"<a>a dog and a cat</a>"}),
        "no sample has a caption",
    ),
    "a name with a bell": (tar({"\x1b[2J.jpg": IMAGE, "\x1b[2J.txt": b"a dog and a cat"}), 1),
}
FAMILIES = {"Arrow": ARROW, "tables and folders": TABLES, "tars": TARS}


def flaws_of(family: str, folder: Path) -> dict[str, str]:
    """Read every file of a family; return what is wrong with the outcome of some."""
    flaws = {}
    for number, (name, (write, expected)) in enumerate(FAMILIES[family].items()):
        place = folder / str(number)
        place.mkdir()
        write(place)
        started, peak = time.process_time(), PeakMemory(torch.device("cpu"))
        outcome = _read(str(place / "data"), place)
        mebibytes = peak.read_peak_bytes_by_field()["peak_rss_bytes"] / 2**20
        seconds = time.process_time() - started
        if isinstance(expected, str):
            is_right = isinstance(outcome, str) and expected in outcome
        else:
            is_right = expected is None or outcome == expected
        if not is_right or seconds > SECONDS or mebibytes > MEBIBYTES:
            flaws[name] = f"{outcome} ({seconds:.0f} s, {mebibytes:.0f} MiB)"
        for path in place.rglob("*.tar"):
            path.unlink()
    return flaws


def _read(data: str, folder: Path) -> str | int:
    """Return the number of samples that are read, or the refusal."""
    try:
        request = SampleFieldsRequest(cache=folder / "cache", captions=CaptionChoice())
        samples = open_source_samples(data, request)
        return sum(
            bool(samples.image(row) and samples.captions_by_field(row))
            for row in range(len(samples))
        )
    except (ValueError, OSError) as error:
        lines = str(error).splitlines()
        is_short = 0 < len(lines) <= 3 and max(map(len, lines)) < 1000
        return "\n".join(lines) if is_short else f"not short: {error}"


@pytest.mark.parametrize("family", FAMILIES)
def test_hostile_file_is_read_or_refused(family: str, tmp_path: Path) -> None:
    assert in_child(flaws_of, family, tmp_path) == {}
