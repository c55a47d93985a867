"""The shared memory through which loader workers hand batches to their training. No torch here."""

import os
from pathlib import Path

from bench.config import PACK_DATA, Experiment
from bench.console.console import UserError
from bench.method import get_method

SHARED_MEMORY_REMEDY = (
    "enlarge it (docker run --shm-size), or use fewer workers (--set workers=N) or none (--set workers=0)"
)
FOLDER = Path("/dev/shm")  # noqa: S108 - Linux has it there
PREFETCHED = 2  # batches of each worker that are loaded ahead: torch's default
TOKEN_BYTES = 8  # of a token id, in int64
MIB = 2**20


def require_shared_memory(experiment: Experiment, workers: int, processes: int) -> None:
    """Raise UserError if the batches that the workers of each of `processes` processes prefetch do not fit into memory.

    The processes are those of this machine.
    """
    if experiment.data == PACK_DATA or not workers or not FOLDER.is_dir():
        return
    found, sides = os.statvfs(FOLDER), experiment.all_image_sizes
    available = found.f_bavail * found.f_frsize
    batches = processes * (PREFETCHED * workers + 1)
    needed = batches * max(_batch_bytes(experiment, side) for side in sides)
    if needed > available:
        raise UserError(
            f"{experiment.name}: {batches} batches of {processes} x {workers} loader workers need "
            f"{needed / MIB:,.2f} MiB of shared memory, {FOLDER} has {available / MIB:,.2f} MiB free: "
            f"{SHARED_MEMORY_REMEDY}"
        )


def _batch_bytes(experiment: Experiment, side: int) -> int:
    """Return the bytes of a batch at a side in pixels: images as bytes or grids as floats, and targets as integers."""
    channels = experiment.embedding_channels
    image = 3 * side**2 if channels is None else 4 * channels * side**2
    method = get_method(experiment.method)
    tokens = TOKEN_BYTES * experiment.context_length if method.embeds_captions(experiment) else 0
    return experiment.batch_size_for(side) * (image + tokens + method.dense_label_bytes(experiment))
