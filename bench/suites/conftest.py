"""Inputs of the suites: parts of a step, timed alone."""

from typing import Any

import pytest
import torch

from bench.data.manifest import pack_cache
from bench.data.pack import PackImages, load_pack_images
from bench.environment.circumstances import summarize_machine
from bench.measure.observations import FINGERPRINT
from bench.records.current import current_circumstances
from bench.suites.device import DEVICE


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Tell the device and the packages, too."""
    machine_info[FINGERPRINT] = summarize_machine(current_circumstances(None, DEVICE))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Time on one core, so that a figure does not depend on how many there are."""
    torch.set_num_threads(1)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def images() -> PackImages:
    """The pack, from the user's cache."""
    return load_pack_images("pretrain", pack_cache())
