"""Many short trainings in one process: neither memory nor open files nor threads grow."""

import threading
from pathlib import Path

from bench.console.console import StopRequest
from bench.profilers.memory import read_process_status_bytes
from bench.train.checkpoint_manager import CheckpointManager
from bench.train.checkpoints import CheckpointConfig
from tests.chaos.conftest import Tries
from tests.chaos.made import write_shards
from tests.chaos.short import short_experiment, train_in_process
from tests.processes import in_child

SETTLED = 0.1  # share of the trainings in which caches fill
METHODS = ("clip", "siglip", "catlip", "superclass")


def held(count: int, seed: int, folder: Path) -> list[tuple[int, int, int]]:
    """Train two steps and save, again and again; return bytes, files and threads before and after `count` times."""
    write_shards(folder / "data")
    first, found = max(2 * len(METHODS), round(count * SETTLED)), list[tuple[int, int, int]]()
    for number in range(first + count + 1):
        if number in (first, first + count):
            files = len([*Path("/proc/self/fd").iterdir()])
            found.append((read_process_status_bytes("VmRSS") or 0, files, threading.active_count()))
        experiment = short_experiment(
            METHODS[number % len(METHODS)], data=str(folder / "data"), seed=seed
        )
        config = CheckpointConfig(folder=str(folder / "checkpoints"), interval_minutes=1e-9)
        manager = CheckpointManager(config, "loops", StopRequest())
        train_in_process(experiment, folder, manager)
    return found


def test_repeated_trainings_leave_neither_memory_nor_files_nor_threads(
    tries: Tries, tmp_path: Path
) -> None:
    """In a process of its own, for memory and files of this one are other tests', too."""
    count = tries(few=8, full=1000)
    before, after = in_child(held, count, tries.seed, tmp_path)
    assert after[0] <= before[0] * (1.05 if count > 100 else 1.5)  # so few fill caches
    assert after[1:] <= before[1:]
