"""Every way to score a subject on a task, by its name. What each takes stands in bench/subjects.py."""

from collections.abc import Callable, Sequence
from typing import Any

from bench.record import Metric, Score
from bench.transfer import multi_label
from bench.transfer.curves import few_shot, label_fractions
from bench.transfer.detection import detection
from bench.transfer.probe import k_nn, linear_probe
from bench.transfer.segmentation import segmentation
from bench.transfer.subject import Subject
from bench.transfer.transfer_init import transfer_init
from bench.transfer.tuned import fine_tuned

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
