"""Matrices with a row per image, which lie in a file where they are too large for memory."""

import os
from collections.abc import Iterable
from tempfile import NamedTemporaryFile

import torch
from jaxtyping import Float
from torch import Tensor

from bench.data.manifest import user_cache_folder
from bench.environment.files import make_folders_unless_in_root

MAX_IN_MEMORY = 2**27  # numbers of a matrix in memory; 175,000 images of 768 features
BLOCK_ROWS = 2**13  # rows that are computed at once


def allocate_or_map_matrix(
    num_rows: int, num_columns: int, dtype: torch.dtype, device: torch.device | None = None
) -> Tensor:
    """Return a matrix to fill, on the device; over `MAX_IN_MEMORY` numbers it is float32 and mapped to a file.

    The file lies in the user's cache, has no name, and its space is free again when the matrix is. OSError if the disk
    is too full.
    """
    if num_rows * num_columns <= MAX_IN_MEMORY:
        return torch.empty(num_rows, num_columns, dtype=dtype, device=device)
    make_folders_unless_in_root(user_cache_folder())
    with NamedTemporaryFile(dir=user_cache_folder()) as file:
        os.posix_fallocate(file.fileno(), 0, num_rows * num_columns * torch.float32.itemsize)
        return torch.from_file(
            file.name, shared=True, size=num_rows * num_columns, dtype=torch.float32
        ).view(num_rows, num_columns)


def concatenate_batches(
    batches: Iterable[Float[Tensor, "_ columns"]], num_rows: int
) -> Float[Tensor, "images columns"]:
    """Return batches with `num_rows` rows in all as one matrix (see `allocate_or_map_matrix`)."""
    matrix = torch.empty(0)
    first = 0
    for batch in batches:
        if not first:
            matrix = allocate_or_map_matrix(num_rows, batch.shape[1], batch.dtype, batch.device)
        matrix[first : first + len(batch)] = batch
        first += len(batch)
    return matrix
