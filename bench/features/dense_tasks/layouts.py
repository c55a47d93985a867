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
FOLDERS_LAYOUT = (
    "classes.txt (line k names class k, from 0), images/train/NAME.jpg, masks/train/NAME.png (one class per pixel; "
    "255: not counted), and both under val/"
)
VOC_LABELS_LAYOUT = (
    "ImageSets/Main/train.txt and val.txt (and test.txt, where it has labels), ImageSets/Main/CLASS_{train,val}.txt or "
    "Annotations/*.xml, and JPEGImages/*.jpg"
)
VOC_MASKS_LAYOUT = (
    "ImageSets/Segmentation/train.txt and val.txt (one NAME per line), JPEGImages/NAME.jpg and "
    "SegmentationClass/NAME.png (255: not counted)"
)


def describe_layout_error(root: Path, lacks: str, layout: str) -> str:
    """Describe what the root folder of a task lacks, and the expected layout."""
    return f"{root} does not hold the task: {lacks}; expected are {layout}"
