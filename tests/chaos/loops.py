"""Many short trainings in one process: neither memory nor open files grow."""

import threading
from pathlib import Path

from bench.console.console import StopRequest
from bench.profilers.memory import read_status_bytes
from bench.train.checkpoint_manager import CheckpointManager
from bench.train.checkpoints import CheckpointConfig
from tests.chaos.bound import Check, num_tries
from tests.chaos.made import write_shards
from tests.chaos.short import short_experiment, train_in_process

FULL, SETTLED = 1000, 0.1  # loops, and the share of them in which caches fill
MOST_GROWTH = 0.05
METHODS = ("clip", "siglip", "catlip", "superclass")


def run(fraction: float, seed: int, folder: Path) -> list[Check]:
    """Train, save and leave a tower again and again."""
    count = num_tries(FULL, fraction)
    write_shards(folder / "data", listed=True)
    first = max(2 * len(METHODS), round(count * SETTLED))
    for number in range(first):
        _loop(number, seed, folder)
    resident, files, threads = _resident(), _open_files(), threading.active_count()
    for number in range(first, first + count):
        _loop(number, seed, folder)
    growth, more = _resident() / resident - 1, _open_files() - files
    return [
        Check(
            f"{count:,} trainings in one process, after {first}: resident memory",
            f"grows by at most {MOST_GROWTH:.0%}",
            f"{growth:+.1%} of {resident / 2**20:,.0f} MiB",
            growth <= MOST_GROWTH,
        ),
        Check("the same: open files", "none more", f"{more:+}", more <= 0),
        Check(
            "the same: threads",
            "none more",
            f"{threading.active_count() - threads:+}",
            threading.active_count() <= threads,
        ),
    ]


def _loop(number: int, seed: int, folder: Path) -> None:
    """Load, train two steps, save on the way."""
    experiment = short_experiment(METHODS[number % len(METHODS)], data=str(folder / "data"), seed=seed)
    out = folder / "checkpoints"
    keeper = CheckpointManager(
        CheckpointConfig(folder=str(out), interval_minutes=1e-9),
        "loops",
        {"all": experiment.training.images},
        StopRequest(),
    )
    train_in_process(experiment, folder, keeper)


def _resident() -> int:
    resident = read_status_bytes("VmRSS")
    assert resident is not None, "Linux alone says how much memory is resident"
    return resident


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
