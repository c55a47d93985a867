"""Tasks by their command-line names; everything that a scoring will open is opened before it begins."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

from bench.catalog import DATA_SETS, PACK_TASKS
from bench.console.console import log
from bench.data.manifest import CACHE, pack_cache
from bench.towers.tower_from import load_tower
from bench.transfer.feature_extractor import tower_embedder
from bench.transfer.tasks.coco import coco_detection, coco_labels
from bench.transfer.tasks.data_sets import data_set_task
from bench.transfer.tasks.file_tasks import folder_task
from bench.transfer.tasks.mask_files import ade20k, mask_folders, voc_masks
from bench.transfer.tasks.scene_tasks import scene_labels, scenes_detection, scenes_segmentation
from bench.transfer.tasks.tasks import pack_task
from bench.transfer.tasks.voc import voc_labels

OF_THE_PACK: dict[str, Callable[[Path], Any]] = {
    "scenes-labels": scene_labels,
    "scenes-segmentation": scenes_segmentation,
    "scenes-detection": scenes_detection,
}  # each is built from the cache of decoded images
UNDER_ROOT: dict[str, Callable[[Path, Path], Any]] = {
    "coco-labels": coco_labels,
    "voc-labels": voc_labels,
    "ade20k": ade20k,
    "voc-segmentation": voc_masks,
    "masks": mask_folders,
    "coco": coco_detection,
}  # each is read from a root, with the cache of decoded images


@cache
def load_task(name: str, results: Path, root: str) -> Any:
    """Load a task of the pack, or a task in files under `root`, once per process.

    The ValueError shows the expected layout of the files, or what is wrong with them.
    """
    images = results / CACHE
    if name in PACK_TASKS:
        return pack_task(name, pack_cache())
    if name in OF_THE_PACK:
        return OF_THE_PACK[name](pack_cache())
    if name in UNDER_ROOT:
        return UNDER_ROOT[name](Path(root), images)
    if name in DATA_SETS:
        return data_set_task(name, Path(root), images)
    return folder_task(name, Path(root), images)


def require_openable(results: Path, root: str, towers: Iterable[str], tasks: Iterable[str]) -> None:
    """Open towers and tasks, and log the tasks' notes; ValueError or OSError if one cannot be opened."""
    for tower in towers:
        with _name_in_errors(tower):
            tower_embedder(load_tower(tower).tower, torch.device("cpu"))
    for task in tasks:
        with _name_in_errors(task):
            for note in load_task(task, results, root).notes:
                log(note)
    load_task.cache_clear()  # towers are scored in processes of their own


@contextmanager
def _name_in_errors(name: str) -> Iterator[None]:
    """Raise what a file's content may cause, without the tower's or the task's name, as a ValueError with it."""
    try:
        yield
    except (ValueError, OSError):
        raise
    except Exception as error:
        raise ValueError(f"{name} cannot be opened: {type(error).__name__}: {error}") from error
