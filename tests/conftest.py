"""Shapes in signatures are checked while the tests run; pictures are decoded once a session."""

from pathlib import Path

import pytest
from jaxtyping import install_import_hook

with install_import_hook(["bench", "models", "losses"], "beartype.beartype"):
    import bench.methods
    import bench.run
    import bench.training.train
    import bench.transfer.score  # noqa: F401

import torch

from bench.data.pack import Pictures, load_pictures


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder whose cache of decoded pictures is filled once."""
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="session")
def pictures(results: Path) -> Pictures:
    return load_pictures("pretrain", results / "cache")


@pytest.fixture(autouse=True)
def two_threads() -> None:
    torch.set_num_threads(2)
