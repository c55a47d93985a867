"""A file that is written tensor by tensor is the one that safetensors writes."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from models.tensor_file import file_order, write_tensors

STATE = {
    "wide": torch.rand(3, 4, dtype=torch.float64),
    "weight": torch.rand(5, 2).t(),
    "half": torch.rand(3).to(torch.bfloat16),
    "none": torch.empty(0, 7),
    "count": torch.tensor(3),
    "odd": torch.arange(5, dtype=torch.uint8),
    "mask": torch.tensor([True, False, True]),
    "näme": torch.rand(2, requires_grad=True),
}


@pytest.mark.parametrize("metadata", [{}, {"facts": '{"a": "ü"}'}])
def test_bytes_are_those_of_safetensors(metadata: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        write_tensors(file, STATE, [STATE[name] for name in file_order(STATE)], metadata)
    assert path.read_bytes() == save(
        {name: value.contiguous() for name, value in STATE.items()}, metadata or None
    )
    read = load_file(path)
    assert all(torch.equal(read[name], value) for name, value in STATE.items())
    with safe_open(path, "pt") as file:
        assert (file.metadata() or {}) == metadata
