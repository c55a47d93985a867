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
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.features.build_pack.shards import Pair

BACKGROUND_SIDE = 256  # pixels
# Written as bg00.webp, bg01.webp and so on, in this order.
PHOTOS = (
    ("skimage.data", "grass.png"),
    ("skimage.data", "gravel.png"),
    ("skimage.data", "brick.png"),
    ("skimage.data", "coffee.png"),
    ("skimage.data", "rocket.jpg"),
    ("skimage.data", "chelsea.png"),
    ("skimage.data", "astronaut.png"),
    ("skimage.data", "hubble_deep_field.jpg"),
    ("skimage.data", "moon.png"),
    ("sklearn.datasets.images", "china.jpg"),
    ("sklearn.datasets.images", "flower.jpg"),
)
# Catalogues in the pack's order. KatorLegaz and Reallusion state CC-BY-3.0 United States, whose terms are equal.
FURNITURE_LICENCES = {
    "BlendSwap-CC-0": "CC0-1.0",
    "BlendSwap-CC-BY": "CC-BY-3.0",
    "KatorLegaz": "CC-BY-3.0",
    "Reallusion": "CC-BY-3.0",
    "Scopia": "CC-BY-3.0",
}
AUTHOR_TAGS = ("Blend Swap", "Scopia", "KatorLegaz", "Katorlegaz", "Reallusion")  # tags that name no content
ANIMALS = ("bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep", "zebra")
MAX_SILHOUETTES = 3_000  # of 10,000
# The components of a pickled array, under their names in files of numpy 1 and 2.
_RECONSTRUCT: Any = np.empty(0).__reduce__()[0]
_ARRAY_COMPONENTS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


def write_backgrounds(out: Path) -> None:
    """Write each photo, scaled to a square without cropping, as WebP of quality 80."""
    for number, (package, name) in enumerate(PHOTOS):
        with Image.open(io.BytesIO((files(package) / name).read_bytes())) as photo:
            square = photo.convert("RGB").resize((BACKGROUND_SIDE, BACKGROUND_SIDE), Image.Resampling.LANCZOS)
        square.save(out / f"bg{number:02d}.webp", "WEBP", quality=80)


def catalogue_files(folder: Path) -> tuple[Path, ...]:
    """Return the required catalogue files."""
    return tuple(folder / f"{catalogue}.sh3f" for catalogue in FURNITURE_LICENCES)


def furniture_pairs(folder: Path) -> Iterator[Pair]:
    """Yield each model's render with its name and up to three tags; the label includes the model's author."""
    for catalogue, licence in FURNITURE_LICENCES.items():
        with zipfile.ZipFile(folder / f"{catalogue}.sh3f") as archive:
            properties = archive.read("PluginFurnitureCatalog.properties").decode("latin-1")
            for number, model in sorted(_parse_catalogue(properties).items()):
                image = Image.open(io.BytesIO(archive.read(model["icon"].lstrip("/")))).convert("RGBA")
                tags = [tag.strip() for tag in model.get("tags", "").split(",")]
                words = [tag.lower() for tag in tags if tag and tag not in AUTHOR_TAGS][:3]
                label = {"category": model["category"], "author": model.get("creator", catalogue)}
                caption = ", ".join([model["name"].lower(), *words])
                yield Pair(f"{catalogue.lower()}-{number}", image, caption, licence, label)


def _parse_catalogue(properties: str) -> dict[int, dict[str, str]]:
    """Parse the lines `field#number=value` of a catalogue into fields by number."""
    models: defaultdict[int, dict[str, str]] = defaultdict(dict)
    for line in properties.splitlines():
        if found := re.match(r"\s*(\w+)#(\d+)\s*=\s*(.*)", line):
            name, number, value = found.groups()
            models[int(number)][name] = value.strip()
    return models


class ArrayUnpickler(pickle.Unpickler):
    """Reads pickled numpy arrays and refuses everything else, because a pickle may call any function by name."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """Return a component of an array; UnpicklingError for any other name."""
        if (module, name) not in _ARRAY_COMPONENTS:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of an array")
        return _ARRAY_COMPONENTS[module, name]


def silhouette_files(folder: Path) -> tuple[Path, ...]:
    """Return the files of images and of classes."""
    return folder / "animal_data_version_3.gz", folder / "animal_label_version_3.gz"


def silhouette_pairs(folder: Path, count: int = MAX_SILHOUETTES) -> Iterator[Pair]:
    """Yield the first `count` images of a fixed shuffle, after dropping exact repeats (284).

    The caption and the class are the animal's name.
    """
    images, classes = (_read_array(path) for path in silhouette_files(folder))
    _, distinct = np.unique(images.reshape(len(images), -1), axis=0, return_index=True)
    shuffle = np.random.RandomState(0)  # the generator of the shipped order
    for row in shuffle.permutation(np.sort(distinct))[:count]:
        animal = ANIMALS[int(classes[row])]
        yield Pair(f"{row:05d}", Image.fromarray(images[row]), animal, "MIT", {"category": animal})


def _read_array(path: Path) -> np.ndarray[Any, Any]:
    with gzip.open(path) as file:
        array = ArrayUnpickler(file).load()
    assert isinstance(array, np.ndarray), f"{path} holds {type(array)}"
    return array
