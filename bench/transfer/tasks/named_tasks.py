"""Tasks by their command-line names."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from bench.catalog import DATA_SETS, PACK_TASKS
from bench.data.manifest import CACHE, pack_cache
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
