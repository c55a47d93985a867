"""Many short trainings in one process: neither memory nor open files grow."""

import threading
from pathlib import Path

from bench.config import Keeping
from bench.console.signals import Stop
from bench.profilers.memory import status_bytes
from bench.train.checkpoint_manager import Keeper
from tests.chaos.bound import Bound, tries
from tests.chaos.made import write_shards
from tests.chaos.short import short, trained

FULL, SETTLED = 1000, 0.1  # loops, and the share of them in which caches fill
MOST_GROWTH = 0.05
METHODS = ("clip", "siglip", "catlip", "superclass")


def run(share: float, seed: int, folder: Path) -> list[Bound]:
    """Train, save and leave a tower again and again."""
    count = tries(FULL, share)
    write_shards(folder / "data", listed=True)
    first = max(2 * len(METHODS), round(count * SETTLED))
    for number in range(first):
        _loop(number, seed, folder)
    resident, files, threads = _resident(), _open_files(), threading.active_count()
    for number in range(first, first + count):
        _loop(number, seed, folder)
    growth, more = _resident() / resident - 1, _open_files() - files
    return [
        Bound(
            f"{count:,} trainings in one process, after {first}: resident memory",
            f"grows by at most {MOST_GROWTH:.0%}",
            f"{growth:+.1%} of {resident / 2**20:,.0f} MiB",
            growth <= MOST_GROWTH,
        ),
        Bound("the same: open files", "none more", f"{more:+}", more <= 0),
        Bound(
            "the same: threads",
            "none more",
            f"{threading.active_count() - threads:+}",
            threading.active_count() <= threads,
        ),
    ]


def _loop(number: int, seed: int, folder: Path) -> None:
    """Load, train two steps, save on the way."""
    experiment = short(METHODS[number % len(METHODS)], data=str(folder / "data"), seed=seed)
    out = folder / "checkpoints"
    keeper = Keeper(Keeping(folder=str(out), minutes=1e-9), "loops", {"all": experiment.images}, Stop())
    trained(experiment, folder, keeper)


def _resident() -> int:
    resident = status_bytes("VmRSS")
    assert resident is not None, "Linux alone says how much memory is resident"
    return resident


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
