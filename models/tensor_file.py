"""A safetensors file that is written tensor by tensor, so that nothing holds a copy of all."""

import json
import struct
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

DTYPES = {  # in their order in a file, the widest first, so that all tensors are aligned
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
ALIGNMENT = 8  # bytes, of the first tensor


@runtime_checkable
class Writable(Protocol):
    """A file that is opened for writing bytes, or an object in its place."""

    def write(self, content: Any, /) -> object: ...

    def writelines(self, contents: Iterable[Any], /) -> object: ...


def file_order(state: Mapping[str, Tensor]) -> list[str]:
    """Return the names in their order in a file, which is that of `safetensors.torch.save`."""
    order = [*DTYPES]
    return sorted(state, key=lambda name: (order.index(state[name].dtype), name))


def write_tensors(
    file: Writable,
    state: Mapping[str, Tensor],
    ordered_tensors: Iterable[Tensor],
    metadata: Mapping[str, str],
) -> None:
    """Write a safetensors file: names, shapes and dtypes from `state`, contents from `ordered_tensors`.

    Each tensor is copied to the CPU when its turn comes. Source: the format's description in the README of
    huggingface/safetensors.
    """
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    offset = 0
    for name in file_order(state):
        end = offset + state[name].numel() * state[name].element_size()
        header[name] = {
            "dtype": DTYPES[state[name].dtype],
            "shape": [*state[name].shape],
            "data_offsets": [offset, end],
        }
        offset = end
    encoded = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    encoded += b" " * (-len(encoded) % ALIGNMENT)
    file.write(struct.pack("<Q", len(encoded)) + encoded)
    for tensor in ordered_tensors:
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        file.write(flat.view(torch.uint8).numpy().data)
