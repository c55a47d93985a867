"""Every way to score a subject on a task, by its name. What each takes stands in bench/catalog.py."""

from collections.abc import Callable, Sequence
from typing import Any

from bench.record import Metric, Score
from bench.transfer.classification.curves import few_shot, label_fractions
from bench.transfer.classification.fine_tune_protocol import fine_tuned
from bench.transfer.classification.probe import k_nn, linear_probe
from bench.transfer.classification.transfer_init import transfer_init
from bench.transfer.detection.detection import detection
from bench.transfer.feature_extractor import Subject
from bench.transfer.multilabel import multi_label
from bench.transfer.segmentation.segmentation import segmentation

Scoring = Callable[[Subject, Any], Sequence[Score | Metric]]  # of a subject on a task of the kind it takes
PROTOCOLS: dict[str, Scoring] = {
    "linear-probe": linear_probe,
    "k-nn": k_nn,
    "few-shot": few_shot,
    "label-fractions": label_fractions,
    "fine-tune": fine_tuned,
    "multi-label": multi_label.linear,
    "multi-label-fine-tune": multi_label.fine_tuned,
    "segmentation": segmentation,
    "detection": detection,
    "transfer-init": transfer_init,
}
