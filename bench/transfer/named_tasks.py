"""Tasks by the names that a person types."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.data.manifest import CACHE
from bench.subjects import TASKS
from bench.transfer.coco import coco
from bench.transfer.coco_objects import coco_objects
from bench.transfer.mask_files import ade20k, mask_folders, voc_masks
from bench.transfer.scene_labels import scene_labels
from bench.transfer.scene_tasks import scenes_detection, scenes_segmentation
from bench.transfer.tasks import pack_tasks
from bench.transfer.voc import voc

OF_THE_PACK: dict[str, Callable[[Path], Any]] = {
    "scenes-labels": scene_labels,
    "scenes-segmentation": scenes_segmentation,
    "scenes-detection": scenes_detection,
}  # made from a folder of decoded pictures
UNDER_ROOT: dict[str, Callable[[Path], Any]] = {
    "ade20k": ade20k,
    "voc-segmentation": voc_masks,
    "masks": mask_folders,
    "coco": coco_objects,
    "coco-labels": coco,
    "voc-labels": voc,
}


def task_named(name: str, results: Path, root: str) -> Any:
    """Load a task of any kind, the pack's or one that lies under `root`; ValueError says how its files have to lie."""
    if name in UNDER_ROOT:
        if not root:
            raise ValueError(f"task {name!r} is read from files: --root FOLDER is missing")
        return UNDER_ROOT[name](Path(root))
    if name in OF_THE_PACK:
        return OF_THE_PACK[name](results / CACHE)
    return pack_tasks(results / CACHE)[TASKS.index(name)]
