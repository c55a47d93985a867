"""Tasks by their command-line names; everything that a scoring will open is opened before it begins."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

from bench.console.console import log
from bench.data.manifest import CACHE, pack_cache
from bench.interfaces.catalog import TASKS
from bench.towers.tower_from import load_tower
from bench.transfer.feature_extractor import tower_embedder


@cache
def load_task(name: str, results: Path, root: str) -> Any:
    """Load a task, in files under `root` where it has a layout, once per process.

    The ValueError shows the expected layout of the files, or what is wrong with them.
    """
    task = TASKS[name]
    return task.load(Path(root), results / CACHE) if task.layout else task.load(pack_cache())


def require_openable(results: Path, root: str, towers: Iterable[str], tasks: Iterable[str]) -> None:
    """Open towers and tasks, and log the tasks' notes; ValueError or OSError if one cannot be opened."""
    for tower in towers:
        with _name_in_errors(tower):
            tower_embedder(load_tower(tower).tower, torch.device("cpu"))
    for task in tasks:
        with _name_in_errors(task):
            for note in load_task(task, results, root).notes:
                log(note)
    load_task.cache_clear()  # towers are scored in processes of their own


@contextmanager
def _name_in_errors(name: str) -> Iterator[None]:
    """Raise what a file's content may cause, without the tower's or the task's name, as a ValueError with it."""
    try:
        yield
    except (ValueError, OSError):
        raise
    except Exception as error:
        raise ValueError(f"{name} cannot be opened: {type(error).__name__}: {error}") from error
