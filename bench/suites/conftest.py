"""Inputs of the suites: parts of a step, timed alone."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Time on one core, so that a figure does not depend on how many there are."""
    torch.set_num_threads(1)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
