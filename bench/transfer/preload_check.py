"""Open everything that a scoring will open, before it begins, in a process that may import torch.

`python -m bench.transfer.preload_check RESULTS ROOT TOWERS TASKS`; TOWERS and TASKS are JSON lists.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError

from bench.console.console import describe_error, log
from bench.towers.tower_from import load_tower
from bench.transfer.feature_extractor import tower_embedder
from bench.transfer.tasks.named_tasks import load_task


def main(results: Path, root: str, towers: Sequence[str], tasks: Sequence[str]) -> str:
    """Open towers and tasks, log the tasks' notes, and return the error message, or an empty string."""
    try:
        for tower in towers:
            tower_embedder(load_tower(tower).tower, torch.device("cpu"))
        for task in tasks:
            for note in load_task(task, results, root).notes:
                log(note)
    except (ValueError, OSError, SafetensorError) as error:
        return describe_error(error)
    return ""


if __name__ == "__main__":
    if wrong := main(Path(sys.argv[1]), sys.argv[2], *map(json.loads, sys.argv[3:])):
        print(wrong)
        sys.exit(1)
