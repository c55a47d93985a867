"""Training batches of a task's images: shuffled by epoch, randomly cropped and flipped."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from bench.data.crops import cropped, draw
from bench.data.order import shuffled_rows
from bench.environment.seeds import AUGMENTATION, seed_for
from bench.transfer.tasks.pictures import Pictures

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Batches:
    """Batch k is a pure function of these fields. Batches cross the borders of epochs, so that all are full."""

    pictures: Pictures
    side: int  # of a crop, in pixels
    size: int  # images per batch
    crop_scale: tuple[float, float]
    flip: bool
    seed: int

    def load(self, k: int) -> tuple[UInt8[Tensor, "batch 3 side side"], Int[Tensor, " batch"]]:
        """Return the images of batch k, and their rows."""
        rows = shuffled_rows(self.seed, len(self.pictures), first=k * self.size, size=self.size)
        draws = draw(self.size, torch.Generator().manual_seed(seed_for(self.seed, AUGMENTATION, k)))
        crops = [
            cropped(self.pictures.rgb(row), drawn, self.crop_scale, self.side, flip=self.flip)
            for row, drawn in zip(rows.tolist(), draws, strict=True)
        ]
        return torch.stack(crops), rows

    def first(self, count: int) -> Iterator[tuple[UInt8[Tensor, "batch 3 side side"], Int[Tensor, " batch"]]]:
        """Yield the first `count` batches."""
        return loaded_ahead(self.load, count)


def loaded_ahead(load: Callable[[int], T], count: int) -> Iterator[T]:
    """Yield batches 0 to `count`, while each thread loads one of the next."""
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads)
    try:
        waiting = deque(pool.submit(load, k) for k in range(min(threads, count)))
        for k in range(count):
            batch = waiting.popleft().result()
            if k + threads < count:
                waiting.append(pool.submit(load, k + threads))
            yield batch
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
