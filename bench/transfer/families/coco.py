"""Tasks in COCO's layout. No torch here."""

from bench.catalog import MULTI_LABEL, OBJECTS, Imported, Task

LAYOUT = (
    "annotations/instances_train2017.json, annotations/instances_val2017.json, train2017/*.jpg and val2017/*.jpg (any "
    "year in place of 2017)"
)
TASKS = (
    Task("coco-labels", MULTI_LABEL, Imported("bench.transfer.tasks.coco:coco_labels"), LAYOUT),
    Task("coco", OBJECTS, Imported("bench.transfer.tasks.coco:coco_detection"), LAYOUT),
)
