"""Several labels a picture: a linear head on frozen features, and the whole tower fine-tuned.

Both choose their one setting on the validation part by the macro mean, are fitted again on training and validation part
together, and are reported on the test part.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from bench.console.console import say
from bench.record import Metric
from bench.transfer.classification.fine_tune import Classifier, FineTuning, logits_of, new_head, trained
from bench.transfer.classification.fine_tune_protocol import Joined, rates_for, recipe_for, searched
from bench.transfer.classification.logistic import Axes
from bench.transfer.classification.probe import STRENGTHS
from bench.transfer.feature_extractor import Subject
from bench.transfer.multilabel.mean_average_precision import mean_average_precision
from bench.transfer.multilabel.sigmoid_probe import sigmoids
from bench.transfer.tasks.multi_label_tasks import MultiLabelPart, MultiLabelTask, some
from losses.multilabel import multilabel_loss

# CatLIP's on COCO, but for its 512 px: a tower is trained at the size that it takes. Source: Mehta et al. 2024,
# arXiv:2404.15653, table 6; apple/corenet, `projects/catlip/multi_label_image_classification/vit_base.yaml`.
PUBLISHED = FineTuning(learning_rate=1e-5, last_learning_rate=1e-6, label_smoothing=0.0, batch_size=32)
Scores = Float[np.ndarray, "_ classes"]  # of a part's pictures


def linear(subject: Subject, task: MultiLabelTask) -> list[Metric]:
    """Score a linear head on frozen features; of equally good strengths that of the strongest penalty is taken."""
    train, validation, test = (
        torch.from_numpy(subject.embed(part.pictures)).to(subject.device, torch.float64)
        for part in (task.train, task.validation, task.test)
    )

    def scores(features: Tensor, part: MultiLabelPart, others: Tensor, strengths: Sequence[float]) -> Iterator[Scores]:
        axes = Axes.of(features)
        labels, unjudged = (torch.from_numpy(of).to(subject.device) for of in (part.labels, part.unjudged))
        for fit in sigmoids(axes.seen(features), labels, unjudged, strengths):
            if not fit.converged:
                told = f"the linear head of {subject.name} at {fit.strength:g} has not converged"
                say(f"{task.name}: {told}")
            yield fit.logits(axes.seen(others)).cpu().numpy()

    qualities = [
        mean_average_precision(found, task.validation).macro
        for found in scores(train, task.train, validation, STRENGTHS)
    ]
    best, together = STRENGTHS[int(np.argmax(qualities))], joined(task.train, task.validation)
    found = next(scores(torch.cat([train, validation]), together, test, [best]))
    return metrics(task, "multi-label, linear", found, together)


def fine_tuned(subject: Subject, task: MultiLabelTask) -> list[Metric]:
    """Fine-tune the subject's tower with a new head, by the binary cross-entropy summed over classes."""
    assert subject.tower is not None, f"{subject.name} has no tower"
    tower, device = subject.tower, subject.device
    head = new_head(tower.width, len(task.classes), seed=0)

    def fit(part: MultiLabelPart, recipe: FineTuning) -> Classifier:
        return trained(tower, head, part.pictures, loss_on(part, device), recipe, device)

    def scores(model: Classifier, part: MultiLabelPart) -> Scores:
        return logits_of(model, part.pictures, device).double().numpy()

    def quality(recipe: FineTuning) -> float:
        return mean_average_precision(scores(fit(task.train, recipe), task.validation), task.validation).macro

    pictures = len(task.train.pictures)
    recipe, _ = searched(recipe_for(PUBLISHED, pictures), rates_for(tower, pictures, PUBLISHED), quality)
    together = joined(task.train, task.validation)
    return metrics(task, "multi-label, fine-tuned", scores(fit(together, recipe), task.test), together)


def loss_on(part: MultiLabelPart, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the loss of logits against the labels of a part's rows: CatLIP's, without what nobody judged."""
    labels, unjudged = (torch.from_numpy(of) for of in (part.labels, part.unjudged))

    def loss_of(logits: Tensor, rows: Tensor) -> Tensor:
        positives, left_out = (of[rows].nonzero(as_tuple=True) for of in (labels, unjudged))
        loss = multilabel_loss(logits, *(index.to(device) for index in positives))
        return loss - F.softplus(logits[tuple(index.to(device) for index in left_out)].float()).sum() / len(logits)

    return loss_of


def metrics(task: MultiLabelTask, protocol: str, scores: Scores, fitted: MultiLabelPart) -> list[Metric]:
    """Return the figures of scores of the test pictures, beside those of an answer that is the same for all pictures.

    It is each class's share of the pictures that were fitted: a class's own average precision is then its share of the
    test pictures, and between classes the commoner stands before the rarer.
    """
    found = mean_average_precision(scores, task.test)
    shares = fitted.labels.sum(axis=0) / np.maximum(1, (~fitted.unjudged).sum(axis=0))
    constant = mean_average_precision(np.broadcast_to(shares, scores.shape), task.test)
    if found.without_positives:
        names = some([task.classes[column] for column in found.without_positives])
        told = "are left out of the macro and the weighted mean, for no test picture shows them"
        say(f"{task.name}: {len(found.without_positives)} classes {told}: {names}")
    values = (
        ("macro mAP", found.macro, constant.macro),
        ("micro mAP", found.micro, constant.micro),
        ("weighted mAP", found.weighted, constant.weighted),
    )
    return [
        Metric(
            task=task.name,
            protocol=protocol,
            name=name,
            value=value,
            num_train=len(fitted.pictures),
            num_test=len(task.test.pictures),
            baseline=baseline,
        )
        for name, value, baseline in values
    ]


def joined(first: MultiLabelPart, second: MultiLabelPart) -> MultiLabelPart:
    """Return two parts as one."""
    return MultiLabelPart(
        Joined(first.pictures, second.pictures),
        np.vstack([first.labels, second.labels]),
        np.vstack([first.unjudged, second.unjudged]),
    )
