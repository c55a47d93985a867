"""Seconds for which ranks wait while a checkpoint of 1.4 GB is saved to a slow disk: `python -m tests.train.slow_disk`.

CatLIP's B/16 with its weights and AdamW's moments is built on the CPU and saved. Writes are slowed to a rate.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

from bench.console.console import StopRequest
from bench.experiment.config import change
from bench.experiment.experiments import EXPERIMENTS
from bench.train.checkpoint_manager import CheckpointManager
from bench.train.checkpoints import CheckpointConfig, latest_valid
from bench.train.state import ScheduleSegment
from tests.train.large_checkpoint import BUDGETS, COMPARISON, build

MIB, GIB = 2**20, 2**30


class SlowFile:
    """A file whose writes take as long as on a disk of a rate in bytes per second."""

    def __init__(self, file: Any, rate: float) -> None:
        self.file = file
        self.rate = rate

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, content: Any) -> None:
        end = time.monotonic() + len(content) / self.rate
        self.file.write(content)
        time.sleep(max(0.0, end - time.monotonic()))

    def writelines(self, contents: Any) -> None:
        for content in contents:
            self.write(content)


def main() -> None:
    """Save once, and print the seconds until the next step and until the checkpoint is complete."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=200, help="MB written per second")
    parser.add_argument("--cache", default="results/cache", help="folder of the decoded pack")
    options = parser.parse_args()
    experiment = change(
        EXPERIMENTS["catlip-vit-b16"], batch_size=2, synset_vocabulary="pack-synsets", compile="off"
    )
    run = build(experiment, Path(options.cache), 0, 1)
    plain_open = Path.open

    def slow_open(path: Path, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        file = plain_open(path, mode, *arguments, **named)
        return SlowFile(file, 1e6 * options.rate) if mode == "wb" else file

    with tempfile.TemporaryDirectory() as folder:
        config = CheckpointConfig(folder=folder, interval_minutes=1e6)
        manager = CheckpointManager(config, COMPARISON, BUDGETS, StopRequest())
        progress = manager.restore(run)
        progress.losses.append(1.0)
        with patch.object(Path, "open", slow_open):
            start = time.monotonic()
            manager._save(run, progress, ScheduleSegment(0, range(6), None))
            waited = time.monotonic() - start
            if hasattr(manager, "close"):  # so that older code can be measured by this file
                manager.close()
            complete = time.monotonic() - start
        size = sum(file.stat().st_size for file in latest_valid(Path(folder))[0].iterdir())
    print(
        f"{size / GIB:.2f} GiB: the ranks waited {waited:.1f} s, the checkpoint was complete after {complete:.1f} s"
    )


if __name__ == "__main__":
    main()
