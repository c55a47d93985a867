"""What multi-label classification, segmentation and detection add. No torch here."""

from bench.features.dense_tasks.layouts import ADE20K_LAYOUT, COCO_LAYOUT
from bench.interfaces.catalog import LazyFunction, ScoringProtocol, TransferTask
from bench.interfaces.extensions import Extension

MULTI_LABEL = "several classes per image, or none"
MASKS = "a class for every pixel"
OBJECTS = "boxes and masks of objects"


def _lazy_function(function: str) -> LazyFunction:
    return LazyFunction(f"bench.features.dense_tasks.{function}")


def _make_protocol(name: str, label_kind: str, scorer: str) -> ScoringProtocol:
    """Return a default protocol that trains the tower on the task."""
    score = _lazy_function(scorer)
    return ScoringProtocol(name, label_kind, score, needs_tower=True, is_default=True)


EXTENSION = Extension(
    tasks=[
        TransferTask(
            "coco-labels",
            MULTI_LABEL,
            _lazy_function("coco:read_coco_multi_label_task"),
            COCO_LAYOUT,
        ),
        TransferTask("coco", OBJECTS, _lazy_function("coco:read_coco_detection_task"), COCO_LAYOUT),
        TransferTask(
            "ade20k",
            MASKS,
            _lazy_function("mask_files:read_ade20k_segmentation_task"),
            ADE20K_LAYOUT,
        ),
    ],
    protocols=[
        _make_protocol("detection", OBJECTS, "detection:score_detection"),
        _make_protocol(
            "multi-label-fine-tune", MULTI_LABEL, "multi_label:score_multi_label_fine_tuning"
        ),
        _make_protocol("segmentation", MASKS, "segmentation:score_segmentation"),
    ],
)
