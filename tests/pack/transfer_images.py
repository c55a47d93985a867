"""Images of the transfer tasks: background photos, furniture and animal silhouettes.

The photos come with scikit-image 0.26 and scikit-learn 1.9; the renders with Sweet Home 3D's additional furniture
(Debian's sweethome3d-furniture), 128 pixels, transparent; the silhouettes with the Python package animal-mnist 0.4
(MIT): grey, 28 x 28 pixels, 10 animals.
"""

import gzip
import io
import pickle
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.pack.shards import Pair

BACKGROUND_SIDE = 256  # pixels
SKIMAGE = (
    "grass.png gravel.png brick.png coffee.png rocket.jpg chelsea.png astronaut.png "
    "hubble_deep_field.jpg moon.png"
)
SKLEARN = "china.jpg flower.jpg"
# Written as bg00.webp, bg01.webp and so on, in this order.
PHOTOS = [files("skimage.data") / name for name in SKIMAGE.split()]
PHOTOS += [files("sklearn.datasets.images") / name for name in SKLEARN.split()]
# Catalogues in the pack's order. KatorLegaz and Reallusion state CC-BY-3.0 United States, whose terms are equal.
FURNITURE_LICENCES = {
    "BlendSwap-CC-0": "CC0-1.0",
    "BlendSwap-CC-BY": "CC-BY-3.0",
    "KatorLegaz": "CC-BY-3.0",
    "Reallusion": "CC-BY-3.0",
    "Scopia": "CC-BY-3.0",
}
# Tags that name no content.
AUTHOR_TAGS = (
    "Blend Swap",
    "Scopia",
    "KatorLegaz",
    "Katorlegaz",
    "Reallusion",
)
ANIMALS = ("bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep", "zebra")
MAX_SILHOUETTES = 3_000  # of 10,000
ARRAY_PARTS = {
    "_reconstruct": np.empty(0).__reduce__()[0],
    "ndarray": np.ndarray,
    "dtype": np.dtype,
}


def write_backgrounds(out: Path) -> None:
    """Write each photo, scaled to a square without cropping, as WebP of quality 80."""
    for number, path in enumerate(PHOTOS):
        with Image.open(io.BytesIO(path.read_bytes())) as photo:
            square = photo.convert("RGB").resize(
                (BACKGROUND_SIDE, BACKGROUND_SIDE), Image.Resampling.LANCZOS
            )
        square.save(out / f"bg{number:02d}.webp", "WEBP", quality=80)


def furniture_pairs(folder: Path) -> Iterator[Pair]:
    """Yield each model's render with its name and up to three tags; the label includes the model's author."""
    for catalogue, licence in FURNITURE_LICENCES.items():
        with zipfile.ZipFile(folder / f"{catalogue}.sh3f") as archive:
            properties = archive.read("PluginFurnitureCatalog.properties").decode("latin-1")
            for number, model in sorted(parse_catalogue(properties).items()):
                image = Image.open(io.BytesIO(archive.read(model["icon"].lstrip("/")))).convert(
                    "RGBA"
                )
                tags = [tag.strip() for tag in model.get("tags", "").split(",")]
                words = [tag.lower() for tag in tags if tag and tag not in AUTHOR_TAGS][:3]
                label = {"category": model["category"], "author": model.get("creator", catalogue)}
                caption = ", ".join([model["name"].lower(), *words])
                yield Pair(f"{catalogue.lower()}-{number}", image, caption, licence, label)


def parse_catalogue(properties: str) -> dict[int, dict[str, str]]:
    """Parse the lines `field#number=value` of a catalogue into fields by number."""
    models: defaultdict[int, dict[str, str]] = defaultdict(dict)
    for line in properties.splitlines():
        if match := re.match(r"\s*(\w+)#(\d+)\s*=\s*(.*)", line):
            name, number, value = match.groups()
            models[int(number)][name] = value.strip()
    return models


class ArrayUnpickler(pickle.Unpickler):
    """Reads pickled numpy arrays and refuses everything else, because a pickle may call any function by name."""

    def find_class(self, module: str, name: str) -> Any:
        """Return a component of an array; UnpicklingError for any other name."""
        if module.split(".", maxsplit=1)[0] != "numpy" or name not in ARRAY_PARTS:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of an array")
        return ARRAY_PARTS[name]


def silhouette_pairs(folder: Path, count: int = MAX_SILHOUETTES) -> Iterator[Pair]:
    """Yield the first `count` images of a fixed shuffle, after dropping exact repeats (284).

    The caption and the class are the animal's name.
    """
    images = read_array(folder / "animal_data_version_3.gz")
    classes = read_array(folder / "animal_label_version_3.gz")
    _, distinct = np.unique(images.reshape(len(images), -1), axis=0, return_index=True)
    shuffle = np.random.RandomState(0)  # the generator of the shipped order
    for row in shuffle.permutation(np.sort(distinct))[:count]:
        animal = ANIMALS[int(classes[row])]
        yield Pair(f"{row:05d}", Image.fromarray(images[row]), animal, "MIT", {"category": animal})


def read_array(path: Path) -> np.ndarray[Any, Any]:
    with gzip.open(path) as file:
        array: np.ndarray[Any, Any] = ArrayUnpickler(file).load()
    return array
