"""Tasks by the names that a person types.

`python -m bench.transfer.named_tasks RESULTS ROOT TASK...` checks that they are there before anything is scored.
"""

import sys
from functools import cache
from pathlib import Path
from typing import Any

from bench.data.manifest import CACHE
from bench.subjects import DATA_SETS, TASKS
from bench.transfer.data_sets import data_set_task
from bench.transfer.folders import folder_task
from bench.transfer.tasks import pack_tasks


@cache
def task_named(name: str, results: Path, root: str) -> Any:
    """Load a task of any kind, the pack's or one that lies under `root`, once a process.

    ValueError says how the files that it needs have to lie, or what is wrong with them.
    """
    pictures = results / CACHE
    if name in TASKS:
        return pack_tasks(pictures)[TASKS.index(name)]
    if name in DATA_SETS:
        return data_set_task(name, Path(root), pictures)
    return folder_task(name, Path(root), pictures)


def main(results: str, root: str, *names: str) -> str:
    """Load tasks and tell what a person should know of them; return what is wrong, or nothing."""
    try:
        for name in names:
            for note in task_named(name, Path(results), root).notes:
                print(note, file=sys.stderr)
    except (ValueError, OSError) as error:
        return str(error)
    return ""


if __name__ == "__main__":
    if wrong := main(*sys.argv[1:]):
        print(wrong)
        sys.exit(1)
