"""Scenes composed of the pack's images. No torch here."""

from bench.catalog import MASKS, MULTI_LABEL, OBJECTS, Imported, Task

LOADERS = "bench.transfer.tasks.scene_tasks"
TASKS = (
    Task("scenes-labels", MULTI_LABEL, Imported(f"{LOADERS}:scene_labels")),
    Task("scenes-segmentation", MASKS, Imported(f"{LOADERS}:scenes_segmentation")),
    Task("scenes-detection", OBJECTS, Imported(f"{LOADERS}:scenes_detection")),
)
