"""The built-in tasks and protocols for images of one class. No torch here.

The names `wds_*` are the names of CLIP_benchmark's data sets on the Hugging Face hub (`clip-benchmark/wds_*`).
"""

from bench.interfaces.catalog import (
    DEFAULT_ROOT_TASK,
    EMOJI_TASKS,
    GALLERY,
    SINGLE_LABEL,
    UNSEEN_TASKS,
    LazyFunction,
    ScoringProtocol,
    TransferTask,
)

LAYOUT = (
    "train/CLASS/IMAGE.jpg (or .jpeg, .png, .webp) and val/CLASS/IMAGE.jpg (or test; where both are there, val is for "
    "tuning and test is reported), or CLASS/IMAGE.jpg, which this program splits; or, as CLIP_benchmark writes them, "
    "classnames.txt, one class per line, and {train,test}/{0.tar, 1.tar, …} with the members KEY.webp (or .png, .jpg, "
    ".jpeg) and KEY.cls, the number of the class"
)
DATA_SETS = (
    "imagenet",
    "wds_cars",
    "wds_country211",
    "wds_fer2013",
    "wds_fgvc_aircraft",
    "wds_food101",
    "wds_gtsrb",
    "wds_imagenet-a",
    "wds_imagenet-o",
    "wds_imagenet-r",
    "wds_imagenet1k",
    "wds_imagenet_sketch",
    "wds_imagenetv2",
    "wds_mnist",
    "wds_objectnet",
    "wds_renderedsst2",
    "wds_stl10",
    "wds_sun397",
    "wds_voc2007",
    "wds_vtab-caltech101",
    "wds_vtab-cifar10",
    "wds_vtab-cifar100",
    "wds_vtab-clevr_closest_object_distance",
    "wds_vtab-clevr_count_all",
    "wds_vtab-diabetic_retinopathy",
    "wds_vtab-dmlab",
    "wds_vtab-dsprites_label_orientation",
    "wds_vtab-dsprites_label_x_position",
    "wds_vtab-dsprites_label_y_position",
    "wds_vtab-dtd",
    "wds_vtab-eurosat",
    "wds_vtab-flowers",
    "wds_vtab-kitti_closest_vehicle_distance",
    "wds_vtab-pcam",
    "wds_vtab-pets",
    "wds_vtab-resisc45",
    "wds_vtab-smallnorb_label_azimuth",
    "wds_vtab-smallnorb_label_elevation",
    "wds_vtab-svhn",
)


def _make_task(
    name: str, loader: str, layout: str = "", label_kind: str = SINGLE_LABEL
) -> TransferTask:
    """Return a task, loaded by `bench.transfer.tasks.<loader>(name, ...)`."""
    load = LazyFunction(f"bench.transfer.tasks.{loader}", (name,))
    return TransferTask(name, label_kind, load, layout)


def _make_protocol(
    name: str, scorer: str, label_kind: str = SINGLE_LABEL, **flags: bool
) -> ScoringProtocol:
    """Return a protocol whose function is `bench.transfer.classification.<scorer>`."""
    score = LazyFunction(f"bench.transfer.classification.{scorer}")
    return ScoringProtocol(name, label_kind, score, **flags)


PACK_LOADER = "pack_tasks:load_pack_task"
UNSEEN_SUBGROUPS, UNSEEN_RETRIEVAL = UNSEEN_TASKS
TASKS = (
    *(_make_task(name, PACK_LOADER) for name in (*EMOJI_TASKS, UNSEEN_SUBGROUPS)),
    _make_task(UNSEEN_RETRIEVAL, PACK_LOADER, label_kind=GALLERY),
    *(
        _make_task(name, "file_tasks:load_file_task", LAYOUT)
        for name in (DEFAULT_ROOT_TASK, *DATA_SETS)
    ),
)
PROTOCOLS = (
    _make_protocol("linear-probe", "probe:score_linear_probe", is_default=True),
    _make_protocol("k-nn", "probe:score_k_nn", is_default=True),
    _make_protocol("retrieval", "probe:score_retrieval_at_1", GALLERY, is_default=True),
    _make_protocol("few-shot", "probe:score_few_shot"),
    _make_protocol("label-fractions", "probe:score_label_shares"),
    _make_protocol("linear-probe-catlip", "fine_tune:score_linear_probe_catlip", needs_tower=True),
    _make_protocol("fine-tune", "fine_tune:score_fine_tuning", needs_tower=True),
    _make_protocol("transfer-init", "transfer_init:score_transfer_init", needs_tower=True),
)
