"""Tasks by the names that a person types.

`python -m bench.transfer.named_tasks RESULTS ROOT TASK...` checks that they are there before anything is scored.
"""

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from bench.data.manifest import CACHE
from bench.subjects import DATA_SETS, TASKS
from bench.terminal import say
from bench.transfer.coco import coco
from bench.transfer.coco_objects import coco_objects
from bench.transfer.data_sets import data_set_task
from bench.transfer.folders import folder_task
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
}
LABELLED_UNDER_ROOT: dict[str, Callable[[Path, Path], Any]] = {"coco-labels": coco, "voc-labels": voc}


@cache
def task_named(name: str, results: Path, root: str) -> Any:
    """Load a task of any kind, the pack's or one that lies under `root`, once a process.

    ValueError says how the files that it needs have to lie, or what is wrong with them.
    """
    pictures = results / CACHE
    if name in TASKS:
        return pack_tasks(pictures)[TASKS.index(name)]
    if name in OF_THE_PACK:
        return OF_THE_PACK[name](pictures)
    if name in UNDER_ROOT:
        return UNDER_ROOT[name](Path(root))
    if name in LABELLED_UNDER_ROOT:
        return LABELLED_UNDER_ROOT[name](Path(root), pictures)
    if name in DATA_SETS:
        return data_set_task(name, Path(root), pictures)
    return folder_task(name, Path(root), pictures)


def main(results: str, root: str, *names: str) -> str:
    """Load tasks and tell what a person should know of them; return what is wrong, or nothing."""
    try:
        for name in names:
            for note in task_named(name, Path(results), root).notes:
                say(note)
    except (ValueError, OSError) as error:
        return str(error)
    return ""


if __name__ == "__main__":
    if wrong := main(*sys.argv[1:]):
        print(wrong)
        sys.exit(1)
