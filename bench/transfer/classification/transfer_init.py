"""Heads initialised from pre-training, compared with random heads on few labels of a task.

For a tower with a classifier, each class takes the row of the label that is nearest in WordNet. For a tower with a text
tower, each class takes the embedding of its name.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from bench.labels.vocabulary import read_vocabulary
from bench.labels.wordnet import NearestSynset, SynsetCandidates, find_synsets, hypernyms
from bench.record import Score, TaskMetric
from bench.towers.head_file import LabelClassifier, TextEncoder
from bench.towers.tower_from import LoadedTower
from bench.transfer.classification.fine_tune import FineTuning, init_head
from bench.transfer.classification.init_tables import CLASS_NAMES, COPIED_ROWS, PROTOCOL, RANDOM_HEAD
from bench.transfer.classification.probe import EmbeddedTask, LabelledFeatures, draws_of, embedded, make_score
from bench.transfer.classification.shares import Order, distinct_shares, first_rows
from bench.transfer.feature_extractor import FeatureExtractor
from bench.transfer.tasks.tasks import Task
from bench.transfer.transfer_training import BETAS

SHOTS = (1, 2, 5, 20)  # per class
MAX_SHOTS_TO_TUNE = 4
DRAWS = 10
RATES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
STEPS = 100  # full-batch
RECIPE = FineTuning()
Rows = Int[Tensor, "draws _"]  # of a part


class InitialHead(NamedTuple):
    """Initial heads, one per draw."""

    weight: Float[Tensor, "draws classes width"]
    bias: Float[Tensor, "draws classes"]


class ChosenRate(NamedTuple):
    """The learning rate chosen for a draw, its validation accuracy, and the number of training images."""

    rate: float
    accuracy: float
    images: int


def score_transfer_init(subject: FeatureExtractor, task: Task) -> list[Score | TaskMetric]:
    """Score every head that the subject has, untrained and trained on few labels, and report each class's label.

    If the vocabulary contains some of the classes themselves, these are scored also as a task of their own.
    """
    whole = embedded(subject, task, torch.device("cpu"), torch.float32)
    rows = subject.known.label_classifier if subject.known is not None else None
    keys = rows.keys if rows is not None and rows.keys else read_vocabulary("pack-synsets").keys
    found = match_labels(task.classes, keys)
    labels = [
        TaskMetric(
            task=task.name,
            protocol=PROTOCOL,
            name=f"{name}: {' > '.join(match.path)}",
            value=match.similarity,
            num_train=0,
            num_test=0,
            baseline=None,
        )
        for name, of in zip(task.classes, found, strict=True)
        for match in of
    ]
    own = [column for column, of in enumerate(found) if [match.similarity for match in of] == [1.0]]
    scores = list(_curves(subject.known, whole, with_shares=True))
    if 1 < len(own) < len(task.classes):
        some = whole.with_classes(own, f"{task.name}, {len(own)} in the vocabulary")
        scores += _curves(subject.known, some, with_shares=False)
    return [*labels, *scores]


def match_labels(classes: Sequence[str], keys: Sequence[str]) -> list[list[NearestSynset]]:
    """Return for each class the nearest label to each of its synsets; an empty list for a class without synsets."""
    labels = SynsetCandidates(keys, hypernyms())
    return [[labels.nearest(key) for key in find_synsets(name)] for name in classes]


def copy_head(rows: LabelClassifier, found: Sequence[Sequence[NearestSynset]], random: InitialHead) -> InitialHead:
    """Copy the classifier's row for each class: the mean row for several synsets, a random row for none.

    A bias reflects the frequency of a label; a class without a synset gets the mean bias of the other classes. Source:
    Mehta et al. 2024, arXiv:2404.15653 ("Transfer Init").
    """
    column = {key: place for place, key in enumerate(rows.keys)}
    weight, bias = random.weight.clone(), random.bias.clone()
    taken = {place: [column[match.key] for match in of] for place, of in enumerate(found) if of}
    for place, columns in taken.items():
        weight[:, place], bias[:, place] = rows.weight[columns].mean(0), rows.bias[columns].mean()
    if taken:
        others = [place for place in range(len(found)) if place not in taken]
        bias[:, others] = bias[0, list(taken)].mean()
    return InitialHead(weight, bias)


def make_text_head(
    texts: TextEncoder, classes: Sequence[str], features: Float[Tensor, "images width"], draws: int
) -> InitialHead:
    """Build rows from the class names' text embeddings, so that the logits are those of pre-training up to a scale.

    Pre-training divides each logit by the norm of the image's projected feature. A linear head cannot, and divides by
    the mean norm over `features` instead, which leaves the predictions unchanged.
    """
    length = (features @ texts.pair.projection.detach()).norm(dim=1).mean()
    weight = texts.classifier_rows(tuple(name.replace("-", " ") for name in classes)) / length
    return InitialHead(weight.expand(draws, -1, -1).clone(), torch.zeros(draws, len(classes)))


def make_random_head(width: int, classes: int, count: int) -> InitialHead:
    """Return randomly initialised heads, one per draw."""
    heads = [init_head(width, classes, draw) for draw in range(count)]
    weight, bias = torch.stack([head.weight for head in heads]), torch.stack([head.bias for head in heads])
    return InitialHead(weight.detach(), bias.detach())


def fit_heads(
    start: InitialHead, features: Float[Tensor, "draws images width"], labels: Int[Tensor, "draws images"], rate: float
) -> InitialHead:
    """Train the head of each draw on the features of its images, full-batch, with the recipe of fine-tuning.

    Heads of different draws are independent: AdamW updates each weight separately, and gradients are not clipped.
    """
    weight, bias = (value.clone().requires_grad_() for value in start)
    groups: list[dict[str, Any]] = [{"params": [weight]}, {"params": [bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=BETAS, weight_decay=RECIPE.weight_decay, fused=True)
    descent, smoothing = RECIPE.transfer_training(STEPS * RECIPE.batch_size), RECIPE.label_smoothing
    for step in range(STEPS):
        logits = (features @ weight.mT + bias[:, None]).flatten(0, 1)
        losses = F.cross_entropy(logits, labels.flatten(), label_smoothing=smoothing, reduction="sum")
        optimizer.zero_grad()
        (losses / labels.shape[1]).backward()  # type: ignore[no-untyped-call]
        for group in optimizer.param_groups:
            group["lr"] = rate * descent.rate_share(step, STEPS)
        optimizer.step()
    return InitialHead(weight.detach(), bias.detach())


def tune_heads(
    start: InitialHead, task: EmbeddedTask, rows: Rows, others: Rows
) -> tuple[InitialHead, list[ChosenRate]]:
    """Fit a head for each draw to its `rows` of the training part, at the rate that is best on its validation rows.

    `others` are the validation rows; of equally good rates the lowest is chosen. Draws are fitted together in batches
    that hold no more images than the training part, to bound memory.
    """
    at_once = max(1, len(task.train.labels) // rows.shape[1])
    heads, chosen = list[InitialHead](), list[ChosenRate]()
    for first in range(0, len(rows), at_once):
        batch = slice(first, first + at_once)
        begin = InitialHead(start.weight[batch], start.bias[batch])
        given, held = task.train.select(rows[batch]), task.validation.select(others[batch])
        tried = [fit_heads(begin, given.features, given.labels, rate) for rate in RATES]
        accuracy = torch.stack([_accuracy(head, held) for head in tried])
        for draw, best in enumerate(accuracy.argmax(0).tolist()):
            heads.append(InitialHead(tried[best].weight[draw], tried[best].bias[draw]))
            chosen.append(ChosenRate(RATES[best], float(accuracy[best, draw]), rows.shape[1]))
    return InitialHead(torch.stack([head.weight for head in heads]), torch.stack([head.bias for head in heads])), chosen


def _curves(known: LoadedTower | None, task: EmbeddedTask, *, with_shares: bool) -> Iterator[Score]:
    """Score every head at every number of labels.

    A rate is chosen for each head, number of labels and draw on validation images of that draw: as many per class as
    for training but at most four, or the same share.
    """
    drawn = [(train, validation) for _, train, validation in draws_of(task, DRAWS)]
    for name, start in _starts(known, task).items():
        untrained = [ChosenRate(0.0, accuracy, 0) for accuracy in _accuracy(start, task.validation).tolist()]
        yield from _scores(name, start, untrained, task, per_class=0)
        for point, rows, others in _points(drawn, with_shares=with_shares):
            yield from _scores(name, *tune_heads(start, task, rows, others), task, **point)


def _starts(known: LoadedTower | None, task: EmbeddedTask) -> dict[str, InitialHead]:
    random = make_random_head(task.train.features.shape[1], len(task.classes), DRAWS)
    starts = {RANDOM_HEAD: random}
    if known is not None and known.label_classifier is not None and known.label_classifier.keys:
        starts[COPIED_ROWS] = copy_head(
            known.label_classifier, match_labels(task.classes, known.label_classifier.keys), random
        )
    if known is not None and known.text_encoder is not None:
        starts[CLASS_NAMES] = make_text_head(known.text_encoder, task.classes, task.train.features, DRAWS)
    return starts


def _points(drawn: Sequence[tuple[Order, Order]], *, with_shares: bool) -> Iterator[tuple[dict[str, Any], Rows, Rows]]:
    """Yield each number of labels with the training rows and the validation rows of every draw.

    Shares that select the same images as another share are left out. All labels are a single draw.
    """

    def rows(part: int, draws: int = DRAWS, **how: Any) -> Rows:
        return torch.from_numpy(np.stack([first_rows(orders[part], **how) for orders in drawn[:draws]]))

    fewest = min(map(len, drawn[0][0]))
    for shots in (shots for shots in SHOTS if shots <= fewest):
        yield {"per_class": shots}, rows(0, shots=shots), rows(1, shots=min(shots, MAX_SHOTS_TO_TUNE))
    for share in distinct_shares([len(rows) for order in drawn[0] for rows in order]) if with_shares else []:
        draws = 1 if share == 1 else DRAWS
        yield {"label_share": share}, rows(0, draws, share=share), rows(1, draws, share=share)


def _scores(
    name: str, head: InitialHead, chosen: Sequence[ChosenRate], task: EmbeddedTask, **point: Any
) -> Iterator[Score]:
    """Yield one score per draw; each training has run all its steps and counts as converged."""
    right_of_draws = _predictions(head, task.test.features) == task.test.labels
    for draw, (right, by) in enumerate(zip(right_of_draws, chosen, strict=True)):
        protocol = f"{PROTOCOL}, {name}"
        yield make_score(
            task, protocol, by.rate, by.accuracy, right, converged=True, num_train=by.images, draw=draw, **point
        )


def _predictions(head: InitialHead, features: Float[Tensor, "*draws images width"]) -> Int[Tensor, "draws images"]:
    return (features @ head.weight.mT + head.bias[:, None]).argmax(-1)


def _accuracy(head: InitialHead, part: LabelledFeatures) -> Float[Tensor, " draws"]:
    return (_predictions(head, part.features) == part.labels).float().mean(-1)
