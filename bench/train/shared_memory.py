"""The shared memory through which loader workers hand batches to their training. No torch here."""

import os

from bench.console.console import UserError
from bench.environment.cores import LoaderWorkers
from bench.environment.requirements import SHARED_MEMORY
from bench.experiment.config import Experiment
from bench.interfaces.method import LabelMethod, get_method
from bench.tables.formats import MIB

SHARED_MEMORY_REMEDY = (
    "enlarge it (docker run --shm-size), "
    "or use fewer workers (--set workers=N) or none (--set workers=0)"
)
TOKEN_BYTES = 8  # of a token id, in int64


def limit_workers_to_shared_memory(
    experiment: Experiment, workers: LoaderWorkers, processes: int
) -> LoaderWorkers:
    """Return the workers of each of the `processes` of this machine, with batches that fit into shared memory.

    Each prefetches fewer where that helps; where it does not, there are fewer workers, unless the experiment gives
    their number. Raises UserError if no batch is left to prefetch.
    """
    if not workers.count or not SHARED_MEMORY.is_dir():
        return workers
    size = max(_batch_bytes(experiment, side) for side in experiment.image.all_image_sizes)
    file_system = os.statvfs(SHARED_MEMORY)
    free_bytes = file_system.f_bavail * file_system.f_frsize
    # Batches of each process, beside the one that it trains on.
    ahead = free_bytes // (size * processes) - 1
    count = (
        workers.count if experiment.input.workers != "auto" else max(1, min(workers.count, ahead))
    )
    prefetched = min(workers.prefetched, ahead // count)
    free = f"{SHARED_MEMORY} has {free_bytes / MIB:,.2f} MiB free"
    if prefetched < 1:
        batches = processes * (count + 1)
        raise UserError(
            f"{experiment.name}: {batches} batches of {processes} x {count} loader workers need "
            f"{batches * size / MIB:,.2f} MiB of shared memory, {free}: {SHARED_MEMORY_REMEDY}"
        )
    if (count, prefetched) == (workers.count, workers.prefetched):
        return workers
    limits = f"each prefetches {prefetched} of {size / MIB:,.2f} MiB because {free}"
    return LoaderWorkers(count, f"{workers.reason}; {limits}", prefetched)


def _batch_bytes(experiment: Experiment, side: int) -> int:
    """Return the bytes of a batch at a side in pixels: images as bytes or grids as floats, and targets as integers."""
    channels = experiment.image.embedding_channels
    image = 3 * side**2 if channels is None else 4 * channels * side**2
    method = get_method(experiment.method)
    tokens = (
        TOKEN_BYTES * experiment.text.context_length if method.embeds_captions(experiment) else 0
    )
    labels = method.dense_label_bytes(experiment) if isinstance(method, LabelMethod) else 0
    return experiment.batch_size_for(side) * (image + tokens + labels)
