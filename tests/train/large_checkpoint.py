"""Host memory that a checkpoint of ViT-H/16 takes: `python -m tests.train.large_checkpoint --ranks 4`.

CatLIP's H/16 with its weights, AdamW's moments, and with one rank a moving average (10 GB), is built on the CPU,
sharded by FSDP2 over the ranks, saved to a temporary folder and restored. The peak is of anonymous memory above that
before, of the rank with the largest.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from bench.console.console import StopRequest
from bench.data.pack import load_pack_images
from bench.data.stream import PackStream
from bench.experiment.config import Experiment, change
from bench.experiment.experiments import EXPERIMENTS
from bench.interfaces.method import METHODS
from bench.train.build import TrainState, build_train_state
from bench.train.checkpoint_manager import CheckpointManager
from bench.train.checkpoints import TENSORS, TOWER, CheckpointConfig, latest_valid
from bench.train.state import ScheduleSegment
from tests import processes
from tests.processes import in_ranks
from tests.transfer.classification.large_probe import rss_anon_bytes

GIB, CPU = 2**30, torch.device("cpu")
COMPARISON, BUDGETS = "20260101T000000-train", {"equal images": 96}


def build(experiment: Experiment, cache: Path, rank: int, ranks: int) -> TrainState:
    """Return a run whose optimizer has moments, as after a step."""
    images = load_pack_images("pretrain", cache)
    stream = PackStream(
        experiment, images, METHODS["catlip"].targets(experiment), CPU, rank=rank, ranks=ranks
    )
    run = build_train_state(stream)
    for group in run.step.optimizer.param_groups:
        for parameter in group["params"]:
            moments = {
                name: torch.ones_like(parameter.detach()) for name in ("exp_avg", "exp_avg_sq")
            }
            run.step.optimizer.state[parameter] = {"step": torch.tensor(1.0)} | moments
    return run


@contextmanager
def peak_above() -> Iterator[list[float]]:
    """Yield a list that gets the peak of anonymous memory in the block above that at its start, in GiB."""
    start, peak, found, done = rss_anon_bytes(), [0], list[float](), threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], rss_anon_bytes())

    thread = threading.Thread(target=watch)
    thread.start()
    yield found
    done.set()
    thread.join()
    found.append((peak[0] - start) / GIB)


def save_and_restore(rank: int, ranks: int, cache: str, folder: str) -> dict[str, float]:
    """Return the peaks of a rank, and the seconds."""
    one = change(
        EXPERIMENTS["catlip-vit-h16-datacomp"],
        batch_size=2,
        synset_vocabulary="pack-synsets",
        precision="fp32",
    )
    one = change(
        one, compile="off", **({"sharding": "fsdp2", "ema_decay": None} if ranks > 1 else {})
    )
    run = build(one, Path(cache), rank, ranks)
    config = CheckpointConfig(folder=folder, interval_minutes=1e6)
    manager = CheckpointManager(config, COMPARISON, BUDGETS, StopRequest())
    progress = manager.restore(run)
    progress.losses.append(1.0)
    start = time.monotonic()
    with peak_above() as saving:
        manager._save(run, progress, ScheduleSegment(0, range(6), None))
        manager.close()
    saved = time.monotonic()
    path = str(latest_valid(Path(folder))[0])
    checked = time.monotonic()
    with peak_above() as restoring:
        CheckpointManager(
            CheckpointConfig(folder=folder, interval_minutes=1e6, resume_from=path),
            COMPARISON,
            BUDGETS,
            StopRequest(),
        ).restore(run)
    seconds = {"save_s": saved - start, "restore_s": time.monotonic() - checked}
    return {"save_gib": saving[0], "restore_gib": restoring[0]} | seconds


def main() -> None:
    """Save and restore in so many processes; print peaks, sizes and times."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument(
        "--cache", default="results/cache", help="folder of the decoded pack (results/cache)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Path(folder, "checkpoints")
        if options.ranks == 1:
            found = [save_and_restore(0, 1, options.cache, str(checkpoints))]
        else:
            processes.LONGEST_SECONDS = 3600
            found = in_ranks(
                save_and_restore, options.ranks, Path(folder), options.cache, str(checkpoints)
            )
        path, _ = latest_valid(checkpoints)
        sizes = {name: (path / name).stat().st_size / GIB for name in (TENSORS, TOWER)}
    for name, size in sizes.items():
        print(f"{name}: {size:.2f} GiB")
    for name in found[0]:
        print(
            f"{name}: largest {max(one[name] for one in found):.2f}, smallest {min(one[name] for one in found):.2f}"
        )


if __name__ == "__main__":
    main()
