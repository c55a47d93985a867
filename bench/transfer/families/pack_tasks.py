"""Single images of the pack. No torch here."""

from bench.interfaces.catalog import (
    EMOJI_TASKS,
    GALLERY,
    RETRIEVAL_TASK,
    SINGLE_LABEL,
    UNSEEN_TASKS,
    LazyFunction,
    Task,
)

# Grey shapes, which HOG classifies best.
SILHOUETTES = (
    "silhouettes 20 per class",
    "silhouettes 100 per class",
)
TWEMOJI = "Twemoji"  # the test images of all tasks on emoji
TASKS = (
    *(
        Task(
            name,
            GALLERY if name == RETRIEVAL_TASK else SINGLE_LABEL,
            LazyFunction("bench.transfer.tasks.tasks:pack_task", (name,)),
            images=TWEMOJI if name in EMOJI_TASKS else "silhouettes" if name in SILHOUETTES else "",
        )
        for name in (*EMOJI_TASKS, "rooms", *SILHOUETTES)
    ),
    *(
        Task(
            name,
            labels,
            LazyFunction("bench.transfer.tasks.unseen_concepts:unseen_task", (name,)),
            images=TWEMOJI,
        )
        for name, labels in zip(UNSEEN_TASKS, (SINGLE_LABEL, GALLERY), strict=True)
    ),
)
