"""Tasks in Pascal VOC's layout. No torch here."""

from bench.catalog import MASKS, MULTI_LABEL, Imported, Task

LABELS_LAYOUT = (
    "ImageSets/Main/train.txt and val.txt (and test.txt, where it has labels), ImageSets/Main/CLASS_{train,val}.txt or "
    "Annotations/*.xml, and JPEGImages/*.jpg"
)
MASKS_LAYOUT = (
    "ImageSets/Segmentation/train.txt and val.txt (one NAME per line), JPEGImages/NAME.jpg and "
    "SegmentationClass/NAME.png (255: not counted)"
)
TASKS = (
    Task("voc-labels", MULTI_LABEL, Imported("bench.transfer.tasks.voc:voc_labels"), LABELS_LAYOUT),
    Task("voc-segmentation", MASKS, Imported("bench.transfer.tasks.mask_files:voc_masks"), MASKS_LAYOUT),
)
