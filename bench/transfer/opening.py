"""Open everything that a scoring will open, before it begins."""

from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError

from bench.console.console import log
from bench.towers.tower_from import load_tower
from bench.transfer.feature_extractor import tower_embedder
from bench.transfer.tasks.named_tasks import load_task


def require_openable(results: Path, root: str, towers: Iterable[str], tasks: Iterable[str]) -> None:
    """Open towers and tasks, and log the tasks' notes; ValueError or OSError if one cannot be opened."""
    try:
        for tower in towers:
            tower_embedder(load_tower(tower).tower, torch.device("cpu"))
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    for task in tasks:
        for note in load_task(task, results, root).notes:
            log(note)
