"""Single images of the pack. No torch here."""

from bench.catalog import DEFAULT_TASKS, GALLERY, RETRIEVAL_TASK, SINGLE_LABEL, Imported, Task

SILHOUETTES = ("silhouettes 20 per class", "silhouettes 100 per class")  # grey shapes, which HOG classifies best
TASKS = tuple(
    Task(
        name,
        GALLERY if name == RETRIEVAL_TASK else SINGLE_LABEL,
        Imported("bench.transfer.tasks.tasks:pack_task", (name,)),
    )
    for name in (*DEFAULT_TASKS, *SILHOUETTES)
)
