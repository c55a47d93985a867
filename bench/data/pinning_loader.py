"""Batches in pinned memory, from which a copy to a GPU is asynchronous."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch

from bench.data.loader_workers import BatchLoader
from bench.data.targets import pin

B = TypeVar("B")


class PinningLoader(Generic[B]):
    """Returns batch k of another loader in pinned memory, while a thread takes batch k + 1 and pins it.

    So it holds two pinned batches. A k out of sequence is taken after the batch that the thread has begun.
    """

    def __init__(self, loader: BatchLoader[B], device: torch.device) -> None:
        self._loader = loader
        self._thread = ThreadPoolExecutor(1, "pinning", _init_thread, (device,))
        self._next: tuple[int, Future[B | Exception]] | None = None

    def __getitem__(self, k: int) -> B | Exception:
        """Return batch k, or the error of its loader that a person can mend."""
        if self._next is None or self._next[0] != k:
            self._next = k, self._thread.submit(self._take, k)
        batch = self._next[1].result()
        self._next = k + 1, self._thread.submit(self._take, k + 1)
        return batch

    def _take(self, k: int) -> B | Exception:
        pinned: B | Exception = pin(self._loader[k])
        return pinned


def _init_thread(device: torch.device) -> None:
    """Pin for the training's GPU; a copy takes one core, those of the loader workers stay theirs."""
    torch.cuda.set_device(device)
    torch.set_num_threads(1)
