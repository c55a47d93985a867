"""Data sets on disk with one folder per class. No torch here."""

from bench.catalog import DEFAULT_ROOT_TASK, SINGLE_LABEL, Imported, Task

LAYOUT = (
    "train/CLASS/IMAGE.jpg (or .jpeg, .png, .webp) and val/CLASS/IMAGE.jpg (or test; where both are there, val is for "
    "tuning and test is reported), or CLASS/IMAGE.jpg, which this program splits"
)
TASKS = tuple(
    Task(name, SINGLE_LABEL, Imported("bench.transfer.tasks.file_tasks:folder_task", (name,)), LAYOUT)
    for name in (DEFAULT_ROOT_TASK, "imagenet")
)
