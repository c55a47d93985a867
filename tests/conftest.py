"""Shapes in signatures are checked while the tests run. Of several processes only those that run tests import bench.

Tests run in a random order (pytest-randomly prints its seed; `--randomly-seed N` repeats it).
"""

import argparse
import gc
import os
import signal
import sys
from contextlib import suppress

import psutil
import pytest
from jaxtyping import install_import_hook


def runs_tests() -> bool:
    """Whether this process runs tests itself, and hands none out to workers."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-n", "--numprocesses", default="0")
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    return is_worker or parser.parse_known_args()[0].numprocesses == "0"


if runs_tests():
    gc.disable()  # until the tests are collected
    with install_import_hook(["bench", "models", "losses"], "beartype.beartype"):
        import bench.measure.speed
        import bench.methods
        import bench.train.loop
        import bench.transfer.score  # noqa: F401
        import tests.computed_once  # noqa: F401
        from bench.interfaces.extensions import load_features_and_extensions

        load_features_and_extensions()
    from tests.fixtures import (  # noqa: F401
        decoded,
        forked_runs,
        images,
        own_results,
        results,
        torch_state,
        user_cache,
    )

LONGEST_FILES = (  # those with tests that are marked `slow` come first
    "test_distributed.py",
    "test_slurm.py",
    "test_quickstart.py",
    "test_pretrain.py",
    "test_compilation.py",
    "test_extensions.py",
    "test_own_data.py",
    "test_check.py",
    "test_wheel.py",
    "test_explain.py",
    "test_commit_runs.py",
    "test_collectives.py",
    "test_rank_kills.py",
    "test_reference.py",
    "test_tune.py",
    "test_step.py",
    "test_runner.py",
    "test_export.py",
    "test_faults.py",
    "test_interleave.py",
    "test_elastic.py",
    "test_resume.py",
    "test_methods.py",
)


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
        os._exit(128 + signal.SIGINT)
