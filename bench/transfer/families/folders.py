"""Data sets in a folder: class folders, tars or parquet files. No torch here."""

from bench.interfaces.catalog import DEFAULT_ROOT_TASK, SINGLE_LABEL, LazyFunction, Task

LAYOUT = (
    "train/CLASS/IMAGE.jpg (or .jpeg, .png, .webp) and val/CLASS/IMAGE.jpg (or test; where both are there, val is for "
    "tuning and test is reported), or CLASS/IMAGE.jpg, which this program splits"
)
TAR_LAYOUT = (
    "classnames.txt, one class per line, and {train,test}/{nshards.txt, 0.tar, 1.tar, …} with the members KEY.webp (or "
    ".png, .jpg, .jpeg) and KEY.cls, the number of the class, as CLIP_benchmark writes them"
)
PARQUET_LAYOUT = (
    "SPLIT-*.parquet or SPLIT/*.parquet (train, validation, test), here or in one folder such as data, with a column "
    "of images and one of class labels, as the Hugging Face hub has them"
)
_FOLDERS = "bench.transfer.tasks.file_tasks:folder_task"
_READERS = {
    DEFAULT_ROOT_TASK: (
        "parquet_tasks:load_folder_of_any_layout",
        f"{LAYOUT}; or {TAR_LAYOUT}; or {PARQUET_LAYOUT}",
    ),
    "webdataset": ("tar_tasks:tar_task", TAR_LAYOUT),
    "parquet": ("parquet_tasks:parquet_task", PARQUET_LAYOUT),
}
TASKS = (
    *(
        Task(name, SINGLE_LABEL, LazyFunction(f"bench.transfer.tasks.{reader}"), layout)
        for name, (reader, layout) in _READERS.items()
    ),
    *(
        Task(name, SINGLE_LABEL, LazyFunction(_FOLDERS, (name,)), LAYOUT)
        for name in ("imagefolder", "imagenet")
    ),
)
