"""Open everything that a scoring will open, before it begins."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from bench.console.console import log
from bench.towers.tower_from import load_tower
from bench.transfer.feature_extractor import tower_embedder
from bench.transfer.tasks.named_tasks import load_task


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
