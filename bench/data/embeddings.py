"""Precomputed image embeddings, stored as .npy members of shards."""

import io

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bench.data.decoding import EMPTY, UnusableImageError

NOT_AN_ARRAY, TOO_SHORT, NOT_FINITE = (
    "not a .npy array of floats",
    "fewer bytes than its header says",
    "a value is not finite",
)
SUFFIX = "npy"
READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def decode_grid(encoded: bytes, channels: int, side: int) -> Float[Tensor, "channels side side"]:
    """Read a grid of embeddings, fp16 or fp32 in C order, as fp32; nothing is unpickled.

    A grid is the output of an image tokeniser or autoencoder, as Synth2 trains on (arXiv:2403.07750). Raises
    UnusableImageError unless it has `channels` x `side` x `side` finite numbers.
    """
    if not encoded:
        raise UnusableImageError(EMPTY)
    file = io.BytesIO(encoded)
    try:
        shape, fortran, kind = READERS[np.lib.format.read_magic(file)](file)
    except (ValueError, KeyError):
        raise UnusableImageError(NOT_AN_ARRAY) from None
    if fortran or kind not in (np.dtype("<f2"), np.dtype("<f4")):
        raise UnusableImageError(NOT_AN_ARRAY)
    if shape != (channels, side, side):
        raise UnusableImageError(f"shape {shape}, not {(channels, side, side)}")
    content = encoded[file.tell() :]
    if len(content) != channels * side * side * kind.itemsize:
        raise UnusableImageError(TOO_SHORT)
    grid = torch.from_numpy(np.frombuffer(content, kind).reshape(shape).astype(np.float32))
    if not grid.isfinite().all():
        raise UnusableImageError(NOT_FINITE)
    return grid
