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

from bench.labels.class_names import synsets_of
from bench.labels.hypernyms import Labels, Nearest, hypernyms
from bench.labels.vocabulary import read_vocabulary
from bench.record import Metric, Score
from bench.towers.head_file import LabelRows, Texts
from bench.towers.tower_from import KnownTower
from bench.transfer.classification.fine_tune import FineTuning, new_head
from bench.transfer.classification.init_tables import COPIED, NAMES, PROTOCOL, RANDOM
from bench.transfer.classification.probe import Labelled, SeenTask, draws_of, embedded, score
from bench.transfer.classification.shares import Order, distinct_shares, first_rows
from bench.transfer.feature_extractor import Subject
from bench.transfer.tasks.tasks import Task
from bench.transfer.transfer_training import BETAS

SHOTS = (1, 2, 5, 20)  # per class
MOST_SHOTS_TO_TUNE = 4
DRAWS = 10
RATES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
STEPS = 100  # full-batch
RECIPE = FineTuning()
Rows = Int[Tensor, "draws _"]  # of a part


class Start(NamedTuple):
    """Initial heads, one per draw."""

    weight: Float[Tensor, "draws classes width"]
    bias: Float[Tensor, "draws classes"]


class Chosen(NamedTuple):
    """The learning rate chosen for a draw, its validation accuracy, and the number of training images."""

    rate: float
    accuracy: float
    pictures: int


def transfer_init(subject: Subject, task: Task) -> list[Score | Metric]:
    """Score every head that the subject has, untrained and trained on few labels, and report each class's label.

    If the vocabulary contains some of the classes themselves, these are scored also as a task of their own.
    """
    whole = embedded(subject, task, torch.device("cpu"), torch.float32)
    rows = subject.known.rows if subject.known is not None else None
    keys = rows.keys if rows is not None and rows.keys else read_vocabulary("pack-synsets").keys
    found = matches(task.classes, keys)
    labels = [
        Metric(
            task=task.name,
            protocol=PROTOCOL,
            name=f"{name}: {' > '.join(match.way)}",
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
        some = whole.of(own, f"{task.name}, {len(own)} in the vocabulary")
        scores += _curves(subject.known, some, with_shares=False)
    return [*labels, *scores]


def matches(classes: Sequence[str], keys: Sequence[str]) -> list[list[Nearest]]:
    """Return for each class the nearest label to each of its synsets; an empty list for a class without synsets."""
    labels = Labels(keys, hypernyms())
    return [[labels.nearest(key) for key in synsets_of(name)] for name in classes]


def copied_head(rows: LabelRows, found: Sequence[Sequence[Nearest]], random: Start) -> Start:
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
    return Start(weight, bias)


def text_head(texts: Texts, classes: Sequence[str], features: Float[Tensor, "images width"], draws: int) -> Start:
    """Build rows from the class names' text embeddings, so that the logits are those of pre-training up to a scale.

    Pre-training divides each logit by the norm of the image's projected feature. A linear head cannot, and divides by
    the mean norm over `features` instead, which leaves the predictions unchanged.
    """
    length = (features @ texts.pair.projection.detach()).norm(dim=1).mean()
    weight = texts.rows(tuple(name.replace("-", " ") for name in classes)) / length
    return Start(weight.expand(draws, -1, -1).clone(), torch.zeros(draws, len(classes)))


def random_head(width: int, classes: int, count: int) -> Start:
    """Return randomly initialised heads, one per draw."""
    heads = [new_head(width, classes, draw) for draw in range(count)]
    weight, bias = torch.stack([head.weight for head in heads]), torch.stack([head.bias for head in heads])
    return Start(weight.detach(), bias.detach())


def fitted(
    start: Start, features: Float[Tensor, "draws images width"], labels: Int[Tensor, "draws images"], rate: float
) -> Start:
    """Train the head of each draw on the features of its images, full-batch, with the recipe of fine-tuning.

    Heads of different draws are independent: AdamW updates each weight separately, and gradients are not clipped.
    """
    weight, bias = (value.clone().requires_grad_() for value in start)
    groups: list[dict[str, Any]] = [{"params": [weight]}, {"params": [bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=BETAS, weight_decay=RECIPE.weight_decay, fused=True)
    descent, smoothing = RECIPE.descent(STEPS * RECIPE.batch_size), RECIPE.label_smoothing
    for step in range(STEPS):
        logits = (features @ weight.mT + bias[:, None]).flatten(0, 1)
        losses = F.cross_entropy(logits, labels.flatten(), label_smoothing=smoothing, reduction="sum")
        optimizer.zero_grad()
        (losses / labels.shape[1]).backward()  # type: ignore[no-untyped-call]
        for group in optimizer.param_groups:
            group["lr"] = rate * descent.share(step, STEPS)
        optimizer.step()
    return Start(weight.detach(), bias.detach())


def tuned(start: Start, task: SeenTask, rows: Rows, others: Rows) -> tuple[Start, list[Chosen]]:
    """Fit a head for each draw to its `rows` of the training part, at the rate that is best on its validation rows.

    `others` are the validation rows; of equally good rates the lowest is chosen. Draws are fitted together in batches
    that hold no more images than the training part, to bound memory.
    """
    at_once = max(1, len(task.train.labels) // rows.shape[1])
    heads, chosen = list[Start](), list[Chosen]()
    for first in range(0, len(rows), at_once):
        batch = slice(first, first + at_once)
        begin = Start(start.weight[batch], start.bias[batch])
        given, held = task.train.some(rows[batch]), task.validation.some(others[batch])
        tried = [fitted(begin, given.features, given.labels, rate) for rate in RATES]
        accuracy = torch.stack([_accuracy(head, held) for head in tried])
        for draw, best in enumerate(accuracy.argmax(0).tolist()):
            heads.append(Start(tried[best].weight[draw], tried[best].bias[draw]))
            chosen.append(Chosen(RATES[best], float(accuracy[best, draw]), rows.shape[1]))
    return Start(torch.stack([head.weight for head in heads]), torch.stack([head.bias for head in heads])), chosen


def _curves(known: KnownTower | None, task: SeenTask, *, with_shares: bool) -> Iterator[Score]:
    """Score every head at every number of labels.

    A rate is chosen for each head, number of labels and draw on validation images of that draw: as many per class as
    for training but at most four, or the same share.
    """
    drawn = [(train, validation) for _, train, validation in draws_of(task, DRAWS)]
    for name, start in _starts(known, task).items():
        untrained = [Chosen(0.0, accuracy, 0) for accuracy in _accuracy(start, task.validation).tolist()]
        yield from _scores(name, start, untrained, task, per_class=0)
        for point, rows, others in _points(drawn, with_shares=with_shares):
            yield from _scores(name, *tuned(start, task, rows, others), task, **point)


def _starts(known: KnownTower | None, task: SeenTask) -> dict[str, Start]:
    random = random_head(task.train.features.shape[1], len(task.classes), DRAWS)
    starts = {RANDOM: random}
    if known is not None and known.rows is not None and known.rows.keys:
        starts[COPIED] = copied_head(known.rows, matches(task.classes, known.rows.keys), random)
    if known is not None and known.texts is not None:
        starts[NAMES] = text_head(known.texts, task.classes, task.train.features, DRAWS)
    return starts


def _points(drawn: Sequence[tuple[Order, Order]], *, with_shares: bool) -> Iterator[tuple[dict[str, Any], Rows, Rows]]:
    """Yield each number of labels with the training rows and the validation rows of every draw.

    Shares that select the same images as another share are left out. All labels are a single draw.
    """

    def rows(part: int, draws: int = DRAWS, **how: Any) -> Rows:
        return torch.from_numpy(np.stack([first_rows(orders[part], **how) for orders in drawn[:draws]]))

    fewest = min(map(len, drawn[0][0]))
    for shots in (shots for shots in SHOTS if shots <= fewest):
        yield {"per_class": shots}, rows(0, shots=shots), rows(1, shots=min(shots, MOST_SHOTS_TO_TUNE))
    for share in distinct_shares([len(rows) for order in drawn[0] for rows in order]) if with_shares else []:
        draws = 1 if share == 1 else DRAWS
        yield {"label_share": share}, rows(0, draws, share=share), rows(1, draws, share=share)


def _scores(name: str, head: Start, chosen: Sequence[Chosen], task: SeenTask, **point: Any) -> Iterator[Score]:
    """Yield one score per draw; each training has run all its steps and counts as converged."""
    right_of_draws = _answers(head, task.test.features) == task.test.labels
    for draw, (right, by) in enumerate(zip(right_of_draws, chosen, strict=True)):
        protocol = f"{PROTOCOL}, {name}"
        yield score(
            task, protocol, by.rate, by.accuracy, right, converged=True, num_train=by.pictures, draw=draw, **point
        )


def _answers(head: Start, features: Float[Tensor, "*draws images width"]) -> Int[Tensor, "draws images"]:
    return (features @ head.weight.mT + head.bias[:, None]).argmax(-1)


def _accuracy(head: Start, part: Labelled) -> Float[Tensor, " draws"]:
    return (_answers(head, part.features) == part.labels).float().mean(-1)
