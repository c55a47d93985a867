"""The layouts of the files of tasks, as errors show them. No torch here."""

from pathlib import Path

COCO_LAYOUT = (
    "annotations/instances_train2017.json, annotations/instances_val2017.json, train2017/*.jpg and val2017/*.jpg (any "
    "year in place of 2017)"
)
ADE20K_LAYOUT = (
    "images/training/NAME.jpg, annotations/training/NAME.png (0: no class, else 1 to 150), "
    "and both under validation/"
)


def require_path_of_layout(root: Path, path: Path, layout: str) -> None:
    """Raise ValueError with the expected layout of the root folder unless the path exists."""
    if not path.exists():
        raise ValueError(
            f"{root} does not hold the task: {path.relative_to(root)} is not there; expected are {layout}"
        )
