"""The task of a folder whose layout is not named: its content shows it."""

from pathlib import Path

from bench.transfer.tasks.file_tasks import folder_task
from bench.transfer.tasks.parquet_tasks import list_tables, parquet_task
from bench.transfer.tasks.tar_tasks import holds_tars, tar_task
from bench.transfer.tasks.tasks import SingleLabelTask


def load_folder_of_any_layout(root: Path, cache: Path) -> SingleLabelTask:
    """Read tars, tables or class folders; raises ValueError as their readers."""
    if holds_tars(root):
        return tar_task(root, cache)
    return parquet_task(root, cache) if list_tables(root) else folder_task("imagefolder", root, cache)
