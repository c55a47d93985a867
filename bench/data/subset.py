"""The samples of a data set that a run uses: those with keys listed in a file, or a random subset as a control.

Of the shipped pack also those without the held-out concepts.
"""

import csv
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from bench.data.captions.batches import KEY_COLUMNS, find_column
from bench.data.captions.files import UNREADABLE
from bench.data.held_out import exclusion_reasons
from bench.environment.files import atomic_write, prefix_errors
from bench.environment.seeds import SUBSET, derive_seed
from bench.experiment.config import Experiment, list_names
from bench.experiment.fields import RANDOM_SUBSET, SEEN_CONCEPTS


def is_key_file(subset: str | None) -> TypeGuard[str]:
    """Return whether a file lists the samples that a run uses."""
    return subset is not None and subset != SEEN_CONCEPTS and not subset.startswith(RANDOM_SUBSET)


def subset_rows(experiment: Experiment, keys: Sequence[str] | pa.ChunkedArray) -> Sequence[int]:
    """Return the rows of the data set that an experiment uses, ascending; ValueError as `require_subset`."""
    subset = experiment.input.subset
    if subset is None:
        return range(len(keys))
    if subset == SEEN_CONCEPTS:
        return _to_array(
            pc.indices_nonzero(_is_kept(_key_array(keys), [*exclusion_reasons()])).to_numpy()
        )
    if is_key_file(subset):
        array = _key_array(keys)
        return _to_array(
            pc.indices_nonzero(pc.is_in(array, value_set=_known_keys(subset, array))).to_numpy()
        )
    require_subset(subset, keys)
    import torch

    generator = torch.Generator().manual_seed(derive_seed(experiment.seed, SUBSET))
    drawn = torch.randperm(len(keys), generator=generator)[
        : int(subset.removeprefix(RANDOM_SUBSET))
    ]
    return _to_array(drawn.sort().values.numpy())


def require_subset(subset: str, keys: Sequence[str] | pa.ChunkedArray) -> None:
    """Raise ValueError for more rows than the data set has, a file without a key column, and keys of no sample."""
    if is_key_file(subset):
        _known_keys(subset, _key_array(keys))
    elif subset != SEEN_CONCEPTS and int(subset.removeprefix(RANDOM_SUBSET)) > len(keys):
        expected = (
            f"expected {RANDOM_SUBSET}N with N from 1 to the data set's {len(keys):,} samples"
        )
        raise ValueError(f"subset={subset}: {expected}")


def _known_keys(subset: str, keys: pa.ChunkedArray) -> pa.Array:
    """Return the keys that a file lists; ValueError for one that no sample has."""
    wanted = pa.array(sorted(read_keys(Path(subset))), keys.type)
    unknown = wanted.filter(pc.invert(pc.is_in(wanted, value_set=keys)))
    if len(unknown):
        example = list_names([unknown[0].as_py()])
        raise ValueError(
            f"{subset}: no sample has {len(unknown):,} of its {len(wanted):,} keys, such as {example}"
        )
    return wanted


def read_keys(path: Path) -> set[str]:
    """Return the keys that a file lists; ValueError if it is no csv file with a key column and keys."""
    if not path.is_file():
        raise ValueError(
            f"subset={path}: no such file; expected a csv file of keys or {RANDOM_SUBSET}N"
        )
    with prefix_errors(path, UNREADABLE), path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file, restval="")
        column = find_column(rows.fieldnames or (), KEY_COLUMNS)
        if column is None:
            columns = list_names(rows.fieldnames or ()) or "none"
            raise ValueError(
                f"no key column; expected {' or '.join(KEY_COLUMNS)} (there are {columns})"
            )
        keys = {row[column] for row in rows}
    if not keys:
        raise ValueError(f"{path}: the file lists no keys")
    return keys


def write_keys(path: Path, keys: Sequence[str] | pa.ChunkedArray, left_out: Sequence[str]) -> None:
    """Write keys of samples, but those left out, into a csv file that `subset` takes; OSError if it cannot."""
    array = _key_array(keys)
    with atomic_write(path) as temporary:
        pa.csv.write_csv(
            pa.table({KEY_COLUMNS[0]: array.filter(_is_kept(array, left_out))}), temporary
        )


def _is_kept(keys: pa.ChunkedArray, left_out: Sequence[str]) -> pa.ChunkedArray:
    return pc.invert(pc.is_in(keys, value_set=pa.array(left_out, pa.large_string())))


def _key_array(keys: Sequence[str] | pa.ChunkedArray) -> pa.ChunkedArray:
    return (
        keys
        if isinstance(keys, pa.ChunkedArray)
        else pa.chunked_array([pa.array(keys, pa.large_string())])
    )


def _to_array(rows: npt.NDArray[Any]) -> "array[int]":
    """Return row numbers in a compact form, in memory and in pickles for other processes."""
    return array("q", rows.astype(np.int64).tobytes())
