"""Inputs of the suites: parts of a step, timed alone."""

import pytest
import torch

from bench.data.manifest import user_cache_folder
from bench.data.pack import PackImages, load_pack_images


@pytest.fixture
def generator() -> torch.Generator:
    """A generator of random numbers, equal in every benchmark."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def images() -> PackImages:
    """The pre-training images of the shipped pack, from the user's cache."""
    return load_pack_images("pretrain", user_cache_folder())
