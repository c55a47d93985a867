"""Animal silhouettes (Python package animal-mnist 0.4, MIT): grey, 28 x 28 pixels, 10 animals."""

import gzip
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.data.build_pack.shards import Pair

ANIMALS = ("bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep", "zebra")
KEPT = 3_000  # of 10,000

# The components of a pickled array, under their names in files of numpy 1 and 2.
_RECONSTRUCT: Any = np.empty(0).__reduce__()[0]
_ARRAY_PARTS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class ArrayUnpickler(pickle.Unpickler):
    """Reads pickled numpy arrays and refuses everything else, because a pickle may call any function by name."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """Return a component of an array; UnpicklingError for any other name."""
        if (module, name) not in _ARRAY_PARTS:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of an array")
        return _ARRAY_PARTS[module, name]


def silhouette_files(folder: Path) -> tuple[Path, ...]:
    """Return the files of images and of classes."""
    return folder / "animal_data_version_3.gz", folder / "animal_label_version_3.gz"


def silhouette_pairs(folder: Path, kept: int = KEPT) -> Iterator[Pair]:
    """Yield the first `kept` images of a fixed shuffle, after dropping exact repeats (284).

    The caption and the class are the animal's name.
    """
    images, classes = (_array(path) for path in silhouette_files(folder))
    _, distinct = np.unique(images.reshape(len(images), -1), axis=0, return_index=True)
    shuffle = np.random.RandomState(0)  # the generator of the shipped order
    for row in shuffle.permutation(np.sort(distinct))[:kept]:
        animal = ANIMALS[int(classes[row])]
        yield Pair(f"{row:05d}", Image.fromarray(images[row]), animal, "MIT", {"category": animal})


def _array(path: Path) -> np.ndarray[Any, Any]:
    with gzip.open(path) as file:
        array = ArrayUnpickler(file).load()
    assert isinstance(array, np.ndarray), f"{path} holds {type(array)}"
    return array
