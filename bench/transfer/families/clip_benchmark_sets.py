"""The data sets of CLIP_benchmark as its hub holds them: folders of tars, with their published sizes. No torch here.

Source: the names are those of `clip-benchmark/wds_*` on the Hugging Face hub. Classes and test images are those of
DataComp's `tasklist.yml` (mlfoundations/datacomp 4a8df19), for sets that it lacks those of VTAB's code. Training images
of `wds_vtab-*` are VTAB's part "train", by the tests of its code (google-research/task_adaptation d7630d3); those of
the other sets are their authors' or their hosts': Kaggle, torchvision, TensorFlow Datasets, `tanganke/gtsrb`.
"""

from typing import NamedTuple

from bench.interfaces.catalog import SINGLE_LABEL, LazyFunction, Task
from bench.transfer.families.folders import TAR_LAYOUT


class PublishedSize(NamedTuple):
    """The size of a data set; None where no exact number is published."""

    classes: int
    train: int | None  # images; 0: there is no such part
    test: int | None


SIZES = {
    "wds_cars": PublishedSize(196, 8_144, 8_041),
    "wds_country211": PublishedSize(211, 31_650, 21_100),
    "wds_fer2013": PublishedSize(7, 28_709, 7_178),
    "wds_fgvc_aircraft": PublishedSize(100, None, 3_333),
    "wds_food101": PublishedSize(101, 75_750, 25_250),
    "wds_gtsrb": PublishedSize(43, 26_640, 12_630),
    "wds_imagenet-a": PublishedSize(200, 0, 7_500),
    "wds_imagenet-o": PublishedSize(200, 0, 2_000),
    "wds_imagenet-r": PublishedSize(200, 0, 30_000),
    "wds_imagenet1k": PublishedSize(1_000, None, 50_000),
    "wds_imagenet_sketch": PublishedSize(1_000, 0, 50_889),
    "wds_imagenetv2": PublishedSize(1_000, 0, 10_000),
    "wds_mnist": PublishedSize(10, 60_000, 10_000),
    "wds_objectnet": PublishedSize(113, 0, 18_574),
    "wds_renderedsst2": PublishedSize(2, 6_920, 1_821),
    "wds_stl10": PublishedSize(10, 5_000, 8_000),
    "wds_sun397": PublishedSize(397, 0, 108_754),
    "wds_voc2007": PublishedSize(20, None, 14_976),
    "wds_vtab-caltech101": PublishedSize(102, 2_754, 6_085),
    "wds_vtab-cifar10": PublishedSize(10, 45_000, 10_000),
    "wds_vtab-cifar100": PublishedSize(100, 45_000, 10_000),
    "wds_vtab-clevr_closest_object_distance": PublishedSize(6, 63_000, 15_000),
    "wds_vtab-clevr_count_all": PublishedSize(8, 63_000, 15_000),
    "wds_vtab-diabetic_retinopathy": PublishedSize(5, 35_126, 42_670),
    "wds_vtab-dmlab": PublishedSize(6, 65_550, 22_735),
    "wds_vtab-dsprites_label_orientation": PublishedSize(40, 589_824, 73_728),
    "wds_vtab-dsprites_label_x_position": PublishedSize(32, 589_824, 73_728),
    "wds_vtab-dsprites_label_y_position": PublishedSize(32, 589_824, None),
    "wds_vtab-dtd": PublishedSize(47, 1_880, 1_880),
    "wds_vtab-eurosat": PublishedSize(10, 16_200, 5_400),
    "wds_vtab-flowers": PublishedSize(102, 1_020, 6_149),
    "wds_vtab-kitti_closest_vehicle_distance": PublishedSize(4, 6_347, 711),
    "wds_vtab-pcam": PublishedSize(2, 262_144, 32_768),
    "wds_vtab-pets": PublishedSize(37, 2_944, 3_669),
    "wds_vtab-resisc45": PublishedSize(45, 18_900, 6_300),
    "wds_vtab-smallnorb_label_azimuth": PublishedSize(18, 24_300, 12_150),
    "wds_vtab-smallnorb_label_elevation": PublishedSize(9, 24_300, 12_150),
    "wds_vtab-svhn": PublishedSize(10, 65_931, 26_032),
}
# Begin the names of several sets.
SHARED_IMAGES = (
    "wds_vtab-clevr",
    "wds_vtab-dsprites",
    "wds_vtab-smallnorb",
)
TASKS = tuple(
    Task(
        name,
        SINGLE_LABEL,
        LazyFunction("bench.transfer.tasks.tar_tasks:published_task", (name,)),
        TAR_LAYOUT,
        next((images for images in SHARED_IMAGES if name.startswith(images)), ""),
    )
    for name in SIZES
)
