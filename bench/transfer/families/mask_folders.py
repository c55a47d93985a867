"""Folders of images and masks. No torch here."""

from bench.catalog import MASKS, Imported, Task

ADE20K_LAYOUT = (
    "images/training/NAME.jpg, annotations/training/NAME.png (0: no class, else 1 to 150), and both under validation/"
)
LAYOUT = (
    "classes.txt (line k names class k, from 0), images/train/NAME.jpg, masks/train/NAME.png (one class per pixel; "
    "255: not counted), and both under val/"
)
TASKS = (
    Task("ade20k", MASKS, Imported("bench.transfer.tasks.mask_files:ade20k"), ADE20K_LAYOUT),
    Task("masks", MASKS, Imported("bench.transfer.tasks.mask_files:mask_folders"), LAYOUT),
)
