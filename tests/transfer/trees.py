"""Labelled images as files, in the layouts that people have on disk."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from bench.transfer.tasks.tasks import LabelledImages, SingleLabelTask
from tests.data.shards import write_shard

COLOURS = {"red": (200, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 200)}


def make_image(path: Path, colour: str = "red", size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, COLOURS[colour]).save(path)
    return path


def folders(root: Path, sizes: Mapping[str, int]) -> Path:
    """A folder for each part with so many images of every colour."""
    for part, size in sizes.items():
        for colour in COLOURS:
            for number in range(size):
                make_image(root / part / colour / f"{number:03}.png", colour)
    return root


def colours(part: LabelledImages) -> list[str]:
    """What each image shows."""
    return [
        list(COLOURS)[int(part.images.rgb(row).flatten(1).float().mean(1).argmax())]
        for row in range(len(part.labels))
    ]


def sizes(task: SingleLabelTask) -> tuple[int, int, int]:
    return len(task.train.labels), len(task.validation.labels), len(task.test.labels)


def dtd(root: Path) -> None:
    for part, per_class in (("train", 4), ("val", 2), ("test", 3)):
        names = [
            f"{colour}/{colour}_{part}_{n}.jpg" for colour in COLOURS for n in range(per_class)
        ]
        for name in names:
            make_image(root / "dtd/dtd/images" / name, name.split("/")[0])
        labels = root / f"dtd/dtd/labels/{part}1.txt"
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text("\n".join(names))


def pets(root: Path) -> None:
    for part, count in (("trainval", 8), ("test", 3)):
        lines = []
        for label, colour in enumerate(sorted(COLOURS), 1):
            for number in range(count):
                make_image(root / f"oxford-iiit-pet/images/{colour}_{part}{number}.jpg", colour)
                lines.append(f"{colour}_{part}{number} {label} 1 1")
        annotations = root / f"oxford-iiit-pet/annotations/{part}.txt"
        annotations.parent.mkdir(parents=True, exist_ok=True)
        annotations.write_text("\n".join(lines))


def food(root: Path) -> None:
    for part, count in (("train", 8), ("test", 3)):
        listed = {c: [f"{c}/{part}{n}" for n in range(count)] for c in COLOURS}
        for colour, names in listed.items():
            for name in names:
                make_image(root / f"food-101/images/{name}.jpg", colour)
        meta = root / f"food-101/meta/{part}.json"
        meta.parent.mkdir(parents=True, exist_ok=True)
        meta.write_text(json.dumps(listed))


def country(root: Path) -> None:
    folders(root / "country211", {"train": 4, "valid": 2, "test": 3})


def euro(root: Path) -> None:
    folders(root / "eurosat/2750", {".": 20})


def aircraft(root: Path) -> None:
    data = root / "fgvc-aircraft-2013b/data"
    for part, count in (("train", 4), ("val", 2), ("test", 3)):
        lines = [
            f"{colour}{part}{number} {colour}" for colour in COLOURS for number in range(count)
        ]
        for line in lines:
            make_image(data / f"images/{line.split()[0]}.jpg")
        (data / f"images_variant_{part}.txt").write_text("\n".join(lines))
    (data / "variants.txt").write_text("\n".join(COLOURS))


def sun(root: Path) -> None:
    folders(root / "SUN397", {"c": 5})
    for path in (root / "SUN397").rglob("*.png"):
        path.rename(path.with_name(f"sun_{path.stem}.jpg"))
    (root / "SUN397/ClassName.txt").write_text("\n".join(f"/c/{colour}" for colour in COLOURS))


def digits(root: Path) -> None:
    """Image k is as grey as k."""
    raw = root / "MNIST/raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 40), ("t10k", 10)):
        numbers = np.arange(count, dtype=np.uint8)
        images, labels = numbers.repeat(28 * 28).reshape(count, 28, 28), numbers % 10
        (raw / f"{part}-images-idx3-ubyte").write_bytes(
            np.array([0x803, *images.shape], ">i4").tobytes() + images.tobytes()
        )
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(
            np.array([0x801, count], ">i4").tobytes() + labels.tobytes()
        )


def tars(
    root: Path, sizes: Mapping[str, int], *, per_shard: int = 10, suffix: str = "webp"
) -> Path:
    """Shards as CLIP_benchmark writes them, with so many images of every colour in each part."""
    for part, size in sizes.items():
        samples = [(colour, label) for _ in range(size) for label, colour in enumerate(COLOURS)]
        (root / part).mkdir(parents=True, exist_ok=True)
        starts = range(0, len(samples), per_shard)
        for shard, start in enumerate(starts):
            members = {}
            for index, (colour, label) in enumerate(samples[start : start + per_shard], start):
                members |= {
                    f"s{index:07}.cls": str(label).encode(),
                    f"s{index:07}.{suffix}": encode(colour, suffix),
                }
            write_shard(root / part / f"{shard}.tar", members)
        (root / part / "nshards.txt").write_text(f"{len(starts)}\n")
    (root / "classnames.txt").write_text("\n".join([*COLOURS, ""]))
    return root


def encode(colour: str, suffix: str = "png") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), COLOURS[colour]).save(file, suffix)
    return file.getvalue()


def hub_table(
    colours: Sequence[str],
    labels: Sequence[object],
    names: Sequence[str] | None = tuple(COLOURS),
    others: Sequence[str] = (),
) -> pa.Table:
    """A table as the `datasets` library writes it: a struct of bytes and path, and class labels with their names.

    `others` are names of further columns of class labels.
    """
    images = pa.array(
        [{"bytes": encode(colour), "path": f"{row}.png"} for row, colour in enumerate(colours)]
    )
    features = {name: {"_type": "ClassLabel", "names": names} for name in (*others, "label")}
    described = {"image": {"_type": "Image"}, **features}
    metadata = (
        {b"huggingface": json.dumps({"info": {"features": described}}).encode()} if names else None
    )
    columns = {"image": images, **dict.fromkeys(others, [0] * len(colours)), "label": list(labels)}
    return pa.table(columns).replace_schema_metadata(metadata)
