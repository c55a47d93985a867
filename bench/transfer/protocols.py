"""Every way to score a subject on a task, by its name. What each takes stands in bench/subjects.py."""

from collections.abc import Callable, Sequence
from typing import Any

from bench.record import Metric, Score
from bench.transfer.curves import few_shot, label_fractions
from bench.transfer.probe import k_nn, linear_probe
from bench.transfer.subject import Subject
from bench.transfer.transfer_init import transfer_init

Scoring = Callable[[Subject, Any], Sequence[Score | Metric]]  # of a subject on a task of the kind it takes
PROTOCOLS: dict[str, Scoring] = {
    "linear-probe": linear_probe,
    "k-nn": k_nn,
    "few-shot": few_shot,
    "label-fractions": label_fractions,
    "transfer-init": transfer_init,
}
