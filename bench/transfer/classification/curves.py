"""Accuracy of linear probes against the number of labelled images: a few per class, or a share of all.

Each draw orders the images of every class in the training and the validation part; a point takes the first of them.
The order depends only on the task and the draw, so that all feature extractors get the same images.
"""

from dataclasses import replace

import numpy as np

from bench.record import Score
from bench.transfer.classification.label_subsets import distinct_shares, first_rows
from bench.transfer.classification.probe import (
    LINEAR_PROBE,
    draw_class_orders,
    embed_task,
    score_not_refitted,
    score_refitted,
)
from bench.transfer.feature_extractor import FeatureExtractor
from bench.transfer.tasks.tasks import Task

DRAWS = 10
SHOTS = (1, 2, 4, 8, 16)
MAX_SHOTS_TO_TUNE = 4
FEW_SHOT, LABEL_FRACTIONS = (replace(LINEAR_PROBE, name=name) for name in ("few-shot", "label fractions"))


def score_few_shot(subject: FeatureExtractor, task: Task) -> list[Score]:
    """Score with 1, 2, 4, 8 and 16 images per class, or all images of a smaller class.

    The penalty is chosen on other images, as many per class but at most four, which are not fitted to. So the choice
    costs no more labels than the fit.
    Source: Zhou et al. 2021, arXiv:2109.01134, the linear probe beside CoOp (lpclip/linear_probe.py has the numbers).
    """
    embedded = embed_task(subject, task)
    return [
        score_not_refitted(
            FEW_SHOT,
            embedded,
            embedded.train.select(first_rows(train_order, shots=shots)),
            embedded.validation.select(first_rows(validation_order, shots=min(shots, MAX_SHOTS_TO_TUNE))),
            per_class=shots,
            draw=draw,
        )
        for draw, train_order, validation_order in draw_class_orders(embedded, DRAWS)
        for shots in SHOTS
    ]


def score_label_fractions(subject: FeatureExtractor, task: Task) -> list[Score]:
    """Score with 1, 5, 10, 25, 50 and 100 % of the labelled images of each class, at least one.

    A share that selects the same images as a smaller share, or as all, is left out. The same share of the validation
    part is used to choose the penalty, then both are fitted to. All labels are a single draw, and the linear probe.
    """
    embedded = embed_task(subject, task)
    sizes = [size for of in (task.train, task.validation) for size in np.bincount(of.labels).tolist()]
    *shares, whole = distinct_shares(sizes)
    some = [
        score_refitted(
            LABEL_FRACTIONS,
            embedded,
            embedded.train.select(first_rows(train_order, share=share)),
            embedded.validation.select(first_rows(validation_order, share=share)),
            label_share=share,
            draw=draw,
        )
        for draw, train_order, validation_order in draw_class_orders(embedded, DRAWS)
        for share in shares
    ]
    return [*some, score_refitted(LABEL_FRACTIONS, embedded, embedded.train, embedded.validation, label_share=whole)]
