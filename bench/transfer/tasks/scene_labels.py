"""Composed scenes as a task of several labels a picture: the pack's own."""

import functools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from bench.transfer.tasks.cutouts import CLASSES, Split
from bench.transfer.tasks.multi_label_tasks import MultiLabelPart, MultiLabelTask
from bench.transfer.tasks.pictures import ArrayPictures
from bench.transfer.tasks.scenes import scenes

COUNTS: dict[Split, int] = {"train": 1200, "validation": 400, "test": 1000}
SIDE = 64  # pixels, as the pack's pictures


@functools.cache
def scene_labels(cache: Path) -> MultiLabelTask:
    """Return the task: which of eight classes are in a scene of one to three objects. Drawn once a process."""
    train, validation, test = (_part(split, count, cache) for split, count in COUNTS.items())
    return MultiLabelTask("scenes", CLASSES, train, validation, test)


def _part(split: Split, count: int, cache: Path) -> MultiLabelPart:
    of = scenes(split, count, SIDE, cache)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        found = list(pool.map(of.scene, range(count)))
    labels = torch.stack([scene.present for scene in found]).numpy()
    return MultiLabelPart(ArrayPictures(torch.stack([scene.rgb for scene in found])), labels, np.zeros_like(labels))
