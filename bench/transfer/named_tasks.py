"""Tasks by their command-line names; everything that a scoring will open is opened before it begins."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from bench.console.console import log
from bench.data.manifest import CACHE, user_cache_folder
from bench.interfaces.catalog import TASKS
from bench.towers.tower_from import load_tower
from bench.transfer.feature_extractor import make_tower_embedder


@cache
def load_task(name: str, results: Path, root: str) -> Any:
    """Load the task with this name, once per process; a task with a layout is read from files under `root`.

    The ValueError shows the expected layout of the files, or what is wrong with them.
    """
    task = TASKS[name]
    if task.layout:
        return task.load(Path(root), results / CACHE)
    return task.load(user_cache_folder())


def require_openable_towers_and_tasks(
    results: Path, root: str, towers: Iterable[str], tasks: Iterable[str]
) -> None:
    """Open towers and tasks by their names, and log the tasks' notes; ValueError or OSError if one cannot be opened."""
    for name in [*towers, *tasks]:
        try:
            if name in TASKS:
                for note in load_task(name, results, root).notes:
                    log(note)
            else:
                make_tower_embedder(load_tower(name).tower, torch.device("cpu"))
        except (ValueError, OSError):
            raise
        except Exception as error:  # what a file's content may cause
            raise ValueError(f"{name} cannot be opened: {type(error).__name__}: {error}") from error
    load_task.cache_clear()  # towers are scored in processes of their own
