"""The samples of a data set that a run uses: those with keys listed in a file, or a random subset as a control.

Of the shipped pack also those without the held-out concepts.
"""

from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias, TypeGuard

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from bench.data.columns import KEY_COLUMNS, find_first_known_column
from bench.data.held_out import exclusion_reason_by_key
from bench.data.paths import UNREADABLE
from bench.data.text_tables import open_text_table
from bench.environment.files import atomic_write, prefix_errors
from bench.environment.seeds import SUBSET, derive_seed
from bench.experiment.config import join_first_names_shortened
from bench.experiment.fields import RANDOM_SUBSET, WITHOUT_HELD_OUT_CONCEPTS

Keys: TypeAlias = Sequence[str] | pa.ChunkedArray


def is_key_file(subset: str | None) -> TypeGuard[str]:
    """Return whether a file lists the samples that a run uses."""
    if subset is None or subset == WITHOUT_HELD_OUT_CONCEPTS:
        return False
    return not subset.startswith(RANDOM_SUBSET)


def subset_rows(subset: str | None, seed: int, keys: Keys) -> Sequence[int]:
    """Return the rows of the data set that a run with this `subset` and seed uses, ascending.

    Of samples that share a listed key, such as the captions of an image, all are used. ValueError for a subset that
    cannot be drawn: too many rows, a file without a column of keys, or keys that no sample has.
    """
    if subset is None:
        return range(len(keys))
    if is_key_file(subset):
        is_used = _is_in(keys, _read_key_file_of_known_keys(subset, keys))
        rows = pc.indices_nonzero(is_used).to_numpy()
    elif subset == WITHOUT_HELD_OUT_CONCEPTS:
        is_excluded = _is_in(keys, list(exclusion_reason_by_key()))
        rows = pc.indices_nonzero(pc.invert(is_excluded)).to_numpy()
    else:
        import torch

        size = int(subset.removeprefix(RANDOM_SUBSET))
        if size > len(keys):
            raise ValueError(f"subset={subset}: the data set has {len(keys):,} samples")
        generator = torch.Generator().manual_seed(derive_seed(seed, SUBSET))
        shuffled = torch.randperm(len(keys), generator=generator)
        rows = shuffled[:size].sort().values.numpy()
    # Compact in memory and in pickles for other processes.
    return array("q", rows.astype(np.int64).tobytes())


def _read_key_file_of_known_keys(subset: str, keys: Keys) -> list[str]:
    """Return the keys that a file lists; ValueError as `read_key_file`, and for keys that no sample has."""
    listed = read_key_file(Path(subset))
    is_unknown = pc.invert(_is_in(listed, keys))
    unknown = _to_array(listed).filter(is_unknown)
    if len(unknown):
        example = join_first_names_shortened([unknown[0].as_py()])
        raise ValueError(
            f"{subset}: no sample has {len(unknown):,} of its {len(listed):,} keys, such as {example}"
        )
    return listed


def read_key_file(path: Path) -> list[str]:
    """Return the keys that a csv file lists, sorted; ValueError without a key column, or for a row without a key."""
    if not path.is_file():
        raise ValueError(
            f"subset={path}: no such file; expected a csv file of keys or {RANDOM_SUBSET}N"
        )
    with prefix_errors(path, UNREADABLE), open_text_table(path) as table:
        column = find_first_known_column(table.columns, KEY_COLUMNS)
        if column is None:
            expected = " or ".join(KEY_COLUMNS)
            columns = join_first_names_shortened(table.columns) or "none"
            raise ValueError(f"expected keys in a column named {expected} (there are {columns})")
        keys = {row.get(column) for row in table.rows}
        if not keys or not keys.isdisjoint((None, "")):
            raise ValueError("it lists no keys, or has a row without a key")
    return sorted(map(str, keys))


def write_key_file(path: Path, keys: Keys, excluded_keys: Sequence[str]) -> None:
    """Write the distinct keys of samples, but the excluded ones, into a csv file for `subset`; OSError if it cannot."""
    is_kept = pc.invert(_is_in(keys, excluded_keys))
    kept_keys = _to_array(keys).filter(is_kept).unique()
    table = pa.table({KEY_COLUMNS[0]: kept_keys})
    with atomic_write(path) as temporary:
        pa.csv.write_csv(table, temporary)


def _is_in(keys: Keys, others: Keys) -> pa.ChunkedArray:
    """Return for each key whether it is one of others."""
    return pc.is_in(_to_array(keys), value_set=_to_array(others))


def _to_array(keys: Keys) -> pa.ChunkedArray:
    if isinstance(keys, pa.ChunkedArray):
        return keys
    return pa.chunked_array([pa.array(keys, pa.large_string())])
