"""Captioned photographs that installed packages ship, as a user's shards and as a user's task of folders."""

import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
import skimage
import sklearn
from PIL import Image

from tests.data.shards import write_shard

SKIMAGE = Path(skimage.__file__).parent / "data"
SKLEARN = Path(sklearn.__file__).parent / "datasets" / "images"
# By class: file and caption.
PHOTOGRAPHS = {
    "astronaut": (SKIMAGE / "astronaut.png", "an astronaut in an orange suit before a flag"),
    "cat": (SKIMAGE / "chelsea.png", "a cat with green eyes"),
    "coffee": (SKIMAGE / "coffee.png", "a cup of coffee with a spoon on a wooden table"),
    "flower": (SKLEARN / "flower.jpg", "a red flower in a garden"),
    "grass": (SKIMAGE / "grass.png", "grass on a meadow"),
    "motorcycle": (SKIMAGE / "motorcycle_left.png", "a motorcycle in a garage beside a wall"),
    "officer": (
        Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg",
        "a woman in a navy uniform",
    ),
    "rocket": (SKIMAGE / "rocket.jpg", "a rocket at night, on the launch pad"),
    "stars": (SKIMAGE / "hubble_deep_field.jpg", "galaxies and stars in the dark sky"),
    "temple": (SKLEARN / "china.jpg", "a Chinese temple with a curved roof"),
}
SIDE = 96  # of a crop, in pixels


def crop(name: str, number: int) -> bytes:
    """Return a random crop of a photograph as a JPEG, the same for equal numbers."""
    draw = np.random.default_rng(number)
    with Image.open(PHOTOGRAPHS[name][0]) as image:
        side = int(min(image.size) * draw.uniform(0.4, 0.9))
        left, top = (int(draw.integers(0, length - side + 1)) for length in image.size)
        file = io.BytesIO()
        image.convert("RGB").crop((left, top, left + side, top + side)).resize((SIDE, SIDE)).save(
            file, "JPEG"
        )
    return file.getvalue()


def write_shards(folder: Path, each: int = 16) -> Path:
    """Write so many crops of each photograph, with its caption and their number, as two shards of webdataset."""
    for shard in range(2):
        members = dict[str, bytes]()
        for number in range(shard, each, 2):
            for name, (_, caption) in PHOTOGRAPHS.items():
                members[f"{name}{number:03}.jpg"] = crop(name, number)
                members[f"{name}{number:03}.txt"] = f"{caption}, view {number}".encode()
        write_shard(folder / f"{shard:05}.tar", members)
    return folder


def write_task(folder: Path, each: int = 6) -> Path:
    """Write other crops as a task: FOLDER/{train,test}/CLASS/NUMBER.jpg."""
    for part, first in (("train", 1000), ("test", 2000)):
        for name in PHOTOGRAPHS:
            (folder / part / name).mkdir(parents=True)
            for number in range(each):
                (folder / part / name / f"{number}.jpg").write_bytes(crop(name, first + number))
    return folder
