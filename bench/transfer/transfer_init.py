"""New heads that begin from what a tower was pre-trained with, beside a random one, on few labels of a task.

A tower with a classifier lends its rows: each class takes the row of the label that is nearest in WordNet. A tower with
a text tower lends the embeddings of the class names.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from bench.data.vocabulary import read_vocabulary
from bench.head_file import LabelRows, Texts
from bench.labels.class_names import synsets_of
from bench.labels.hypernyms import Labels, Nearest, hypernyms
from bench.record import Metric, Score
from bench.transfer.curves import MOST_SHOTS_TO_TUNE, SHARES, Order, draws
from bench.transfer.fine_tune import FineTuning, new_head
from bench.transfer.subject import Subject
from bench.transfer.tasks import Part, Task

PROTOCOL = "transfer-init"
SHOTS = (1, 2, 5, 20)  # of each class
DRAWS = 10
RATES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
STEPS = 100  # of whole batches
RECIPE = FineTuning()


class Start(NamedTuple):
    """A head to begin with, for every draw."""

    weight: Float[Tensor, "draws classes width"]
    bias: Float[Tensor, "draws classes"]


def transfer_init(subject: Subject, task: Task) -> list[Score | Metric]:
    """Score every head that the subject has, untrained and trained on few labels; and tell which label a class took.

    Where the vocabulary has some of the classes themselves, these are scored as a task of their own, too.
    """
    found = matches(task.classes, _keys(subject))
    told = [_told(task, name, match) for name, of in zip(task.classes, found, strict=True) for match in of]
    own = [place for place, of in enumerate(found) if [match.similarity for match in of] == [1.0]]
    tasks = [task] + ([_only(task, own)] if 1 < len(own) < len(task.classes) else [])
    return [*told, *(score for one in tasks for score in _curves(subject, one, with_shares=one is task))]


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
    groups = [{"params": [weight]}, {"params": [bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.999), weight_decay=RECIPE.weight_decay)
    recipe = replace(RECIPE, learning_rate=rate, last_learning_rate=rate * RECIPE.last_learning_rate / RECIPE.learning_rate)
    for step in range(STEPS):
        logits = features @ weight.mT + bias[:, None]
        losses = F.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), label_smoothing=RECIPE.label_smoothing, reduction="sum"
        )
        optimizer.zero_grad()
        (losses / labels.shape[1]).backward()  # type: ignore[no-untyped-call]
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(step, STEPS)
        optimizer.step()
    return Start(weight.detach(), bias.detach())


def _curves(subject: Subject, task: Task, *, with_shares: bool) -> Iterator[Score]:
    """Score every head at every number of labels.

    The rate is chosen for each head and number, on the validation pictures of all draws: as many of each class as are
    trained on, but at most four, or as small a share.
    """
    parts = {part: torch.from_numpy(subject.embed(part.pictures)).float() for part in (task.train, task.validation, task.test)}
    drawn = [(train, validation) for _, train, validation in draws(task, DRAWS)]
    labels = {part: torch.from_numpy(part.labels) for part in parts}
    for name, start in _starts(subject, task, parts[task.train]).items():
        yield from _scores(name, start, None, 0, task, parts[task.test], per_class=0)
        for point, fitted_on, tuned_on in _points(drawn, with_shares=with_shares):
            rows, others = torch.from_numpy(fitted_on), torch.from_numpy(tuned_on)
            found = {
                rate: fitted(start, parts[task.train][rows], labels[task.train][rows], rate) for rate in RATES
            }
            held_out, right = parts[task.validation][others], labels[task.validation][others]
            accuracy = {rate: float((_answers(head, held_out) == right).float().mean()) for rate, head in found.items()}
            best = max(accuracy, key=lambda rate: accuracy[rate])
            yield from _scores(name, found[best], (best, accuracy[best]), rows.shape[1], task, parts[task.test], **point)


def _starts(subject: Subject, task: Task, features: Float[Tensor, "pictures width"]) -> dict[str, Start]:
    random = random_head(features.shape[1], len(task.classes), DRAWS)
    known, starts = subject.known, {"random head": random}
    if known is not None and known.rows is not None and known.rows.keys:
        starts["copied rows"] = copied_head(known.rows, matches(task.classes, known.rows.keys), random)
    if known is not None and known.texts is not None:
        starts["class names"] = text_head(known.texts, task.classes, features, DRAWS)
    return starts


def _points(
    drawn: Sequence[tuple[Order, Order]], *, with_shares: bool
) -> Iterator[tuple[dict[str, Any], Int[np.ndarray, "draws _"], Int[np.ndarray, "draws _"]]]:
    """Yield each number of labels with the rows to fit to and those to choose by, in every draw."""
    fewest = min(len(rows) for rows in drawn[0][0])
    for shots in (shots for shots in SHOTS if shots <= fewest):
        tuned = min(shots, MOST_SHOTS_TO_TUNE)
        yield {"per_class": shots}, _first(drawn, 0, lambda _, n=shots: n), _first(drawn, 1, lambda _, n=tuned: n)
    for share in SHARES if with_shares else ():
        some = partial(_of_share, share)
        yield {"label_share": share}, _first(drawn, 0, some), _first(drawn, 1, some)


def _of_share(share: float, size: int) -> int:
    return max(1, round(size * share))


def _first(drawn: Sequence[tuple[Order, Order]], which: int, wanted: Callable[[int], int]) -> Int[np.ndarray, "draws _"]:
    return np.stack([np.concatenate([rows[: wanted(len(rows))] for rows in orders[which]]) for orders in drawn])


def _scores(
    name: str,
    head: Start,
    chosen: tuple[float, float] | None,
    fitted_to: int,
    task: Task,
    features: Float[Tensor, "pictures width"],
    **point: Any,
) -> Iterator[Score]:
    """Yield a score a draw; `chosen` are the rate and its accuracy on validation pictures, None where none was."""
    labels = task.test.labels
    rate, validation_accuracy = chosen or (0.0, 0.0)
    for draw, answers in enumerate(_answers(head, features).numpy()):
        yield Score(
            task=task.name,
            protocol=f"{PROTOCOL}, {name}",
            chosen=rate,
            validation_accuracy=validation_accuracy,
            converged=True,  # it has taken all its steps
            correct="".join("1" if right else "0" for right in answers == labels),
            num_classes=len(task.classes),
            num_train=fitted_to,
            majority=float(np.bincount(labels).max() / len(labels)),
            draw=draw,
            **point,
        )


def _answers(head: Start, features: Float[Tensor, "*draws pictures width"]) -> Int[Tensor, "draws pictures"]:
    return (features @ head.weight.mT + head.bias[:, None]).argmax(-1)


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


def _only(task: Task, classes: Sequence[int]) -> Task:
    """Return the task of some of its classes."""
    place = {old: new for new, old in enumerate(classes)}

    def part(of: Part) -> Part:
        rows = np.flatnonzero(np.isin(of.labels, classes))
        return Part(Some(of.pictures, rows), np.array([place[label] for label in of.labels[rows].tolist()]))

    names = tuple(task.classes[old] for old in classes)
    return Task(f"{task.name}, {len(names)} in the vocabulary", names, part(task.train), part(task.validation), part(task.test))
