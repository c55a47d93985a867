"""New heads that begin from what a tower was pre-trained with, beside a random one, on few labels of a task.

A tower with a classifier lends its rows: each class takes the row of the label that is nearest in WordNet. A tower with
a text tower lends the embeddings of the class names.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from bench.transfer.classification.shares import distinct_shares, taken
from bench.transfer.feature_extractor import Subject
from bench.transfer.tasks.tasks import Task
from bench.transfer.transfer_training import BETAS

SHOTS = (1, 2, 5, 20)  # of each class
MOST_SHOTS_TO_TUNE = 4
DRAWS = 10
RATES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
STEPS = 100  # of whole batches
RECIPE = FineTuning()
Order = list[Int[np.ndarray, " _"]]  # of a part's rows, class by class
Rows = Int[Tensor, "draws _"]  # of a part


class Start(NamedTuple):
    """A head to begin with, for every draw."""

    weight: Float[Tensor, "draws classes width"]
    bias: Float[Tensor, "draws classes"]


class Chosen(NamedTuple):
    """What a draw's head was trained with: a rate, its accuracy on validation pictures, and so many pictures."""

    rate: float
    accuracy: float
    pictures: int


class Seen(NamedTuple):
    """What a tower makes of a part's pictures, and their classes."""

    features: Float[Tensor, "*draws pictures width"]
    labels: Int[Tensor, "*draws pictures"]


@dataclass(frozen=True, slots=True)
class SeenTask:
    """A task as heads see it."""

    name: str
    classes: tuple[str, ...]
    train: Seen
    validation: Seen
    test: Seen

    def of(self, classes: Sequence[int], name: str) -> "SeenTask":
        """Return the task of some of its classes."""
        number = torch.full((len(self.classes),), -1)
        number[list(classes)] = torch.arange(len(classes))

        def some(seen: Seen) -> Seen:
            kept = number[seen.labels] >= 0
            return Seen(seen.features[kept], number[seen.labels[kept]])

        names = tuple(self.classes[one] for one in classes)
        return SeenTask(name, names, some(self.train), some(self.validation), some(self.test))


def transfer_init(subject: Subject, task: Task) -> list[Score | Metric]:
    """Score every head that the subject has, untrained and trained on few labels; and tell which label a class took.

    Where the vocabulary has some of the classes themselves, these are scored as a task of their own, too.
    """
    parts = (task.train, task.validation, task.test)
    seen = [Seen(torch.from_numpy(subject.embed(of.pictures)).float(), torch.from_numpy(of.labels)) for of in parts]
    whole = SeenTask(task.name, task.classes, *seen)
    found = matches(task.classes, _keys(subject))
    told = [_told(task, name, match) for name, of in zip(task.classes, found, strict=True) for match in of]
    own = [place for place, of in enumerate(found) if [match.similarity for match in of] == [1.0]]
    scores = list(_curves(subject.known, whole, with_shares=True))
    if 1 < len(own) < len(task.classes):
        some = whole.of(own, f"{task.name}, {len(own)} in the vocabulary")
        scores += _curves(subject.known, some, with_shares=False)
    return [*told, *scores]


def matches(classes: Sequence[str], keys: Sequence[str]) -> list[list[Nearest]]:
    """Return for each class the nearest label to each of its synsets; none where it has no synset."""
    labels = Labels(keys, hypernyms())
    return [[labels.nearest(key) for key in synsets_of(name)] for name in classes]


def copied_head(rows: LabelRows, found: Sequence[Sequence[Nearest]], random: Start) -> Start:
    """Copy the classifier's row for each class; the mean row for several synsets, a random one for none.

    A bias tells how common a label is; a class without a synset gets the mean of the others'. Source: Mehta et al.
    2024, arXiv:2404.15653 ("Transfer Init").
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


def text_head(texts: Texts, classes: Sequence[str], features: Float[Tensor, "pictures width"], draws: int) -> Start:
    """Make rows of the class names' text embeddings, so that a picture's logits are those of pre-training.

    These divide by the length of the picture's projected feature; a linear head cannot, and divides by the mean length
    over `features`. The answer is the same.
    """
    length = (features @ texts.pair.projection.detach()).norm(dim=1).mean()
    weight = texts.rows(tuple(name.replace("-", " ") for name in classes)) / length
    return Start(weight.expand(draws, -1, -1).clone(), torch.zeros(draws, len(classes)))


def random_head(width: int, classes: int, count: int) -> Start:
    """Return heads that know nothing, one a draw."""
    heads = [new_head(width, classes, draw) for draw in range(count)]
    weight, bias = torch.stack([head.weight for head in heads]), torch.stack([head.bias for head in heads])
    return Start(weight.detach(), bias.detach())


def fitted(
    start: Start, features: Float[Tensor, "draws pictures width"], labels: Int[Tensor, "draws pictures"], rate: float
) -> Start:
    """Train a head for each draw on the features of its pictures: fine-tuning's recipe, in whole batches.

    Heads of different draws do not touch: AdamW goes by each weight alone, and no gradient is clipped.
    """
    weight, bias = (value.clone().requires_grad_() for value in start)
    groups: list[dict[str, Any]] = [{"params": [weight]}, {"params": [bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=BETAS, weight_decay=RECIPE.weight_decay, fused=True)
    descent = RECIPE.descent(STEPS * RECIPE.batch_size)
    for step in range(STEPS):
        logits = features @ weight.mT + bias[:, None]
        losses = F.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), label_smoothing=RECIPE.label_smoothing, reduction="sum"
        )
        optimizer.zero_grad()
        (losses / labels.shape[1]).backward()  # type: ignore[no-untyped-call]
        for group in optimizer.param_groups:
            group["lr"] = rate * descent.share(step, STEPS)
        optimizer.step()
    return Start(weight.detach(), bias.detach())


def tuned(start: Start, task: SeenTask, rows: Rows, others: Rows) -> tuple[Start, list[Chosen]]:
    """Fit a head for each draw to its rows of the training part, at the rate that is best on its own other rows.

    These are of the validation part; of equally good rates the lowest is taken. So many draws are fitted together as
    have no more pictures than the part: the features are not copied several times.
    """
    at_once = max(1, len(task.train.labels) // rows.shape[1])
    heads, chosen = list[Start](), list[Chosen]()
    for first in range(0, len(rows), at_once):
        some = slice(first, first + at_once)
        begin = Start(start.weight[some], start.bias[some])
        given, held = (_seen(of, at[some]) for of, at in ((task.train, rows), (task.validation, others)))
        tried = [fitted(begin, given.features, given.labels, rate) for rate in RATES]
        accuracy = torch.stack([_accuracy(head, held) for head in tried])
        for draw, best in enumerate(accuracy.argmax(0).tolist()):
            heads.append(Start(tried[best].weight[draw], tried[best].bias[draw]))
            chosen.append(Chosen(RATES[best], float(accuracy[best, draw]), rows.shape[1]))
    return Start(torch.stack([head.weight for head in heads]), torch.stack([head.bias for head in heads])), chosen


def _curves(known: KnownTower | None, task: SeenTask, *, with_shares: bool) -> Iterator[Score]:
    """Score every head at every number of labels.

    A rate is chosen for each head, number and draw, on validation pictures of that draw: as many of each class as are
    trained on but at most four, or as small a share.
    """
    drawn = [(_order(task, task.train, draw), _order(task, task.validation, draw)) for draw in range(DRAWS)]
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


def _order(task: SeenTask, seen: Seen, draw: int) -> Order:
    """Return each class's rows of a part, in an order that goes by the task and the draw alone."""
    words = f"{task.name}/{'train' if seen is task.train else 'validation'}/{draw}"
    shuffled = np.random.default_rng([*hashlib.sha256(words.encode()).digest()]).permutation(len(seen.labels))
    labels = seen.labels.numpy()[shuffled]
    return [shuffled[labels == label] for label in range(len(task.classes))]


def _points(drawn: Sequence[tuple[Order, Order]], *, with_shares: bool) -> Iterator[tuple[dict[str, Any], Rows, Rows]]:
    """Yield each number of labels with the rows to fit to and those to choose by, in every draw.

    Shares that take the same pictures as another are left out. All labels are one draw.
    """
    fewest = min(len(rows) for rows in drawn[0][0])
    for shots in (shots for shots in SHOTS if shots <= fewest):
        others = min(shots, MOST_SHOTS_TO_TUNE)
        yield {"per_class": shots}, _first(drawn, 0, most=shots), _first(drawn, 1, most=others)
    shares = distinct_shares([len(rows) for order in drawn[0] for rows in order]) if with_shares else []
    for share in shares:
        draws = drawn[:1] if share == 1 else drawn
        yield {"label_share": share}, _first(draws, 0, share=share), _first(draws, 1, share=share)


def _first(drawn: Sequence[tuple[Order, Order]], which: int, *, most: int | None = None, share: float = 1.0) -> Rows:
    """Return so many rows of each class, or that share of them, one at least."""

    def number(size: int) -> int:
        return taken(size, share) if most is None else most

    found = [np.concatenate([rows[: number(len(rows))] for rows in orders[which]]) for orders in drawn]
    return torch.from_numpy(np.stack(found))


def _seen(of: Seen, rows: Rows) -> Seen:
    """Take rows of a part, draw by draw."""
    return Seen(of.features[rows], of.labels[rows])


def _scores(name: str, head: Start, chosen: Sequence[Chosen], task: SeenTask, **point: Any) -> Iterator[Score]:
    """Yield a score a draw."""
    labels = task.test.labels
    right_of_draws = (_answers(head, task.test.features) == labels).tolist()
    for draw, (right, by) in enumerate(zip(right_of_draws, chosen, strict=True)):
        yield Score(
            task=task.name,
            protocol=f"{PROTOCOL}, {name}",
            chosen=by.rate,
            validation_accuracy=by.accuracy,
            converged=True,  # it has taken all its steps
            correct="".join("1" if one else "0" for one in right),
            num_classes=len(task.classes),
            num_train=by.pictures,
            majority=float(labels.bincount().max() / len(labels)),
            draw=draw,
            **point,
        )


def _answers(head: Start, features: Float[Tensor, "*draws pictures width"]) -> Int[Tensor, "draws pictures"]:
    return (features @ head.weight.mT + head.bias[:, None]).argmax(-1)


def _accuracy(head: Start, seen: Seen) -> Float[Tensor, " draws"]:
    return (_answers(head, seen.features) == seen.labels).float().mean(-1)


def _keys(subject: Subject) -> tuple[str, ...]:
    """Return the labels that classes are near to: the classifier's, or those that the pack's captions have."""
    rows = subject.known.rows if subject.known is not None else None
    return rows.keys if rows is not None and rows.keys else read_vocabulary("pack-synsets").keys


def _told(task: Task, name: str, match: Nearest) -> Metric:
    return Metric(
        task=task.name,
        protocol=PROTOCOL,
        name=f"{name}: {' > '.join(match.way)}",
        value=match.similarity,
        num_train=0,
        num_test=0,
        baseline=None,
    )
