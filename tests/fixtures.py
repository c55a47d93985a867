"""Fixtures that tests share; the pack is decoded and tokenised once a session."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from bench.data.manifest import user_cache_folder
from bench.data.pack import PackImages, load_pack_images
from bench.data.pack import decode_parts_into_user_cache as decode
from bench.environment.files import hold_file_lock
from bench.environment.tf32 import set_tf32
from tests.processes import Parting

# Of several workers each has a core. What a test starts is no worker: there pytest-benchmark would time nothing.
THREADS = 1 if os.environ.pop("PYTEST_XDIST_WORKER", "") else 2
# How long an example takes on a busy machine is no law. The same examples each time: `--hypothesis-profile explore`
# looks for others.
settings.register_profile("explore", deadline=None)
settings.register_profile("same", deadline=None, derandomize=True)
settings.load_profile("same")


@pytest.fixture(scope="session", autouse=True)
def user_cache(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Path]:
    """A user's cache of the session's own, which its workers share: the pack is decoded once."""
    own = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "XDG_CACHE_HOME", str((own if worker_id == "master" else own.parent) / "user-cache")
        )
        yield user_cache_folder()


@pytest.fixture(scope="session")
def results(user_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder whose cache is the user's."""
    folder = tmp_path_factory.mktemp("results")
    user_cache.mkdir(parents=True, exist_ok=True)
    (folder / "cache").symlink_to(user_cache)
    return folder


@pytest.fixture(scope="session")
def images(user_cache: Path) -> PackImages:
    return load_pack_images("pretrain", user_cache)


@pytest.fixture(scope="session")
def decoded(results: Path) -> Path:
    """The same folder, once all of the pack's images are decoded."""
    with (results / "cache" / "decoding").open("w") as file, hold_file_lock(file, wait=True):
        decode()
    return results


@pytest.fixture
def own_results(decoded: Path, tmp_path: Path) -> Path:  # noqa: ARG001 - the pack is decoded
    """A results folder of a test's own, once all of the pack's images are decoded."""
    return tmp_path


@pytest.fixture
def forked_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands fork their runs from a process that has imported all: for tests of anything but a run's start."""
    monkeypatch.setattr("bench.orchestration.preflight.Runner", Parting)


@pytest.fixture(autouse=True)
def torch_state() -> None:
    """Each test begins with the same threads, random numbers and precision of fp32."""
    set_tf32(enabled=False)
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
