"""Shapes in signatures are checked while the tests run; the pack is decoded and tokenised once a session.

Tests run in a random order (pytest-randomly prints its seed; `--randomly-seed N` repeats it).
"""

import gc
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

with install_import_hook(["bench", "models", "losses"], "beartype.beartype"):
    gc.disable()  # until the tests are collected
    import bench.measure.speed
    import bench.methods
    import bench.train.loop
    import bench.transfer.score  # noqa: F401
    import tests.computed_once  # noqa: F401
    from bench.interfaces.extensions import load_features_and_extensions

    load_features_and_extensions()

import torch

from bench.console.console import INTERRUPTED
from bench.data.manifest import user_cache_folder
from bench.data.pack import PackImages, load_pack_images
from bench.data.pack import decode_parts_into_user_cache as decode
from bench.environment.files import hold_file_lock
from bench.environment.tf32 import set_tf32
from tests.processes import Parting

# Of several workers each has a core. What a test starts is no worker: there pytest-benchmark would time nothing.
THREADS = 1 if os.environ.pop("PYTEST_XDIST_WORKER", "") else 2
LONGEST_FILES = (  # those with tests that are marked `minutes` come first
    "test_kills.py",
    "test_extensions.py",
    "test_gpu.py",
    "test_pretrain.py",
    "test_explain.py",
    "test_distributed.py",
    "test_step.py",
    "test_resume.py",
    "test_loop.py",
    "test_methods.py",
    "test_several_sizes.py",
    "test_compilation.py",
    "test_export.py",
    "test_collectives.py",
    "test_instruments.py",
    "test_costs.py",
    "test_faults.py",
    "test_commit_runs.py",
    "test_killed.py",
)
# How long an example takes on a busy machine is no law. The same examples each time: `--hypothesis-profile explore`
# looks for others.
settings.register_profile("explore", deadline=None)
settings.register_profile("same", deadline=None, derandomize=True)
settings.load_profile("same")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--tries",
        type=float,
        default=0.0,
        help="share of all faults that tests/chaos tries; 0: a few",
    )


def pytest_configure(config: pytest.Config) -> None:
    """End on SIGTERM as on Ctrl-C. Whoever started this may ignore Ctrl-C; what tests start must not."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest files first, lest one worker ends long after the others."""
    rank = {name: place for place, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


def pytest_collection_finish() -> None:
    """Leave imported modules and collected tests out of later garbage collections, which would look at each again."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_keyboard_interrupt() -> None:
    """Leave no process behind, neither a worker nor a process that a test started."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            process.kill()


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End at once after an interrupt: the summary is printed, and pytest would collect garbage for seconds."""
    session = config.pluginmanager.get_plugin("session")
    if session is not None and session.exitstatus == pytest.ExitCode.INTERRUPTED:
        sys.stdout.flush()
        os._exit(INTERRUPTED)


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
