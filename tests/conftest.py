"""Shapes in signatures are checked while the tests run; pictures are decoded once a session."""

import os
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

with install_import_hook(["bench", "models", "losses"], "beartype.beartype"):
    import bench.measure.speed
    import bench.methods
    import bench.train.loop
    import bench.transfer.score  # noqa: F401

import torch

from bench.data.pack import Pictures, load_pictures
from bench.data.pack import main as decode

# Of several workers each has a core. What a test starts is no worker: there pytest-benchmark would time nothing.
THREADS = 1 if os.environ.pop("PYTEST_XDIST_WORKER", "") else 2
settings.register_profile("unhurried", deadline=None)  # how long an example takes on a busy machine is no law
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder whose cache of decoded pictures is filled once."""
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="session")
def pictures(results: Path) -> Pictures:
    return load_pictures("pretrain", results / "cache")


@pytest.fixture(scope="session")
def decoded(results: Path) -> Path:
    """The same folder, once all of the pack's pictures are decoded."""
    decode(results / "cache")
    return results


@pytest.fixture
def own_results(decoded: Path, tmp_path: Path) -> Path:
    """A results folder of a test's own, which shares the decoded pictures."""
    (tmp_path / "cache").symlink_to(decoded / "cache")
    return tmp_path


@pytest.fixture(autouse=True)
def few_threads() -> None:
    torch.set_num_threads(THREADS)
