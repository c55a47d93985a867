"""Labelled images as files, in the layouts that people have on disk."""

import io
from collections.abc import Mapping
from pathlib import Path

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
