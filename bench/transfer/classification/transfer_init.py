"""Heads initialised from pre-training, compared with random heads on few labels of a task.

For a tower with a classifier, each class takes the row of the label that is nearest in WordNet. For a tower with a text
tower, each class takes the mean embedding of several prompts with its name.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from open_clip import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES
from timm.data.imagenet_info import ImageNetInfo
from torch import Tensor

from bench.labels.wordnet import SynsetCandidates, hypernyms, synset_keys_of_class_name
from bench.records.scores import Score
from bench.towers.head_file import LabelClassifier, TextEncoder
from bench.towers.tower_from import LoadedTower
from bench.transfer.classification.fine_tune import RELEASED, init_head
from bench.transfer.classification.label_subsets import RowsByClass, distinct_shares, first_rows
from bench.transfer.classification.probe import (
    DRAWS,
    MAX_SHOTS_TO_TUNE,
    EmbeddedTask,
    LabelledFeatures,
    draw_class_orders,
    embed_task,
    make_score,
)
from bench.transfer.feature_extractor import FeatureExtractor
from bench.transfer.label_curves import COPIED_ROWS, INIT_PROTOCOL, PROMPTS, RANDOM_HEAD
from bench.transfer.tasks.tasks import SingleLabelTask
from bench.transfer.transfer_training import BETAS

SHOTS = (1, 2, 5, 20)  # per class
RATES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
STEPS = 100  # full-batch
Rows = Int[Tensor, "draws _"]  # of a part


class InitialHeads(NamedTuple):
    """Initial heads, one per draw."""

    weight: Float[Tensor, "draws classes width"]
    bias: Float[Tensor, "draws classes"]

    def predictions(
        self, features: Float[Tensor, "*draws images width"]
    ) -> Int[Tensor, "draws images"]:
        return (features @ self.weight.mT + self.bias[:, None]).argmax(-1)

    def accuracy(self, part: LabelledFeatures) -> Float[Tensor, " draws"]:
        return (self.predictions(part.features) == part.labels).float().mean(-1)


class ChosenRate(NamedTuple):
    """The learning rate chosen for a draw, its validation accuracy, and the number of training images."""

    rate: float
    accuracy: float
    images: int


def score_initial_heads(subject: FeatureExtractor, task: SingleLabelTask) -> list[Score]:
    """Score every head that the subject has, untrained and trained on few labels.

    A rate is chosen for each head, number of labels and draw on validation images of that draw: as many per class as
    for training but at most four, or the same share.
    """
    embedded = embed_task(subject, task, torch.device("cpu"), torch.float32)
    subsets = list(_label_subsets(draw_class_orders(embedded)))
    scores = list[Score]()
    for name, start in _initial_heads(subject.loaded, embedded).items():
        accuracies = start.accuracy(embedded.validation).tolist()
        untrained = [ChosenRate(0.0, accuracy, 0) for accuracy in accuracies]
        scores += _make_scores(name, start, untrained, embedded, per_class=0)
        for point, train_rows, validation_rows in subsets:
            head, chosen = tune_heads(start, embedded, train_rows, validation_rows)
            scores += _make_scores(name, head, chosen, embedded, **point)
    return scores


def _initial_heads(loaded: LoadedTower | None, task: EmbeddedTask) -> dict[str, InitialHeads]:
    """Return the untrained heads of a tower by their names; features that are no tower's have the random head alone."""
    random = make_random_head(task.train.features.shape[1], len(task.classes), DRAWS)
    heads = {RANDOM_HEAD: random}
    if loaded is None:
        return heads
    classifier = loaded.label_classifier
    if classifier is not None and classifier.keys:
        heads[COPIED_ROWS] = copy_head(classifier, task.classes, random)
    text_encoder = loaded.read_text_encoder()
    if text_encoder is not None:
        names = class_names_for_prompts(task.classes)
        prompts = [_prompts_of_class(name) for name in names]
        heads[PROMPTS] = make_text_head(text_encoder, prompts, task.train.features, DRAWS)
    return heads


def _prompts_of_class(name: str) -> tuple[str, ...]:
    return tuple(template(name) for template in OPENAI_IMAGENET_TEMPLATES)


def copy_head(
    classifier: LabelClassifier, classes: Sequence[str], random: InitialHeads
) -> InitialHeads:
    """Copy the classifier's row for each class: of the label nearest to its synset by WordNet path similarity.

    A class takes the mean row for several synsets, a random row for none. A bias reflects the frequency of a label; a
    class without a synset gets the mean bias of the other classes. Source: Mehta et al. 2024, arXiv:2404.15653
    ("Transfer Init").
    """
    labels = SynsetCandidates(classifier.keys, hypernyms())
    row_of_key = {key: row for row, key in enumerate(classifier.keys)}
    weight = random.weight.clone()
    bias = random.bias.clone()
    with_synset = torch.zeros(len(classes), dtype=torch.bool)
    for row, name in enumerate(classes):
        synsets = synset_keys_of_class_name(name)
        if synsets:
            copied = [row_of_key[labels.nearest(synset)] for synset in synsets]
            weight[:, row] = classifier.weight[copied].mean(0)
            bias[:, row] = classifier.bias[copied].mean()
            with_synset[row] = True
    if with_synset.any():
        bias[:, ~with_synset] = bias[0, with_synset].mean()
    return InitialHeads(weight, bias)


def class_names_for_prompts(classes: Sequence[str]) -> list[str]:
    """Return the names of classes for prompts; for ImageNet's synsets the names of CLIP's authors."""
    synsets = ImageNetInfo().label_names()  # type: ignore[no-untyped-call]
    names_by_synset = dict(zip(synsets, IMAGENET_CLASSNAMES, strict=True))
    return [names_by_synset.get(name, name.replace("-", " ")) for name in classes]


def make_text_head(
    texts: TextEncoder,
    prompts: Sequence[tuple[str, ...]],
    features: Float[Tensor, "images width"],
    draws: int,
) -> InitialHeads:
    """Build rows from the text embeddings of each class's prompts; logits equal those in pre-training up to a scale.

    Pre-training divides each logit by the norm of the image's projected feature. A linear head cannot, and divides by
    the mean norm over `features` instead, which leaves the predictions unchanged.
    """
    length = (features @ texts.pair.projection.detach()).norm(dim=1).mean()
    weight = texts.make_classifier_rows(prompts) / length
    weights = weight.expand(draws, -1, -1).clone()
    return InitialHeads(weights, torch.zeros(draws, len(prompts)))


def make_random_head(width: int, classes: int, count: int) -> InitialHeads:
    """Return randomly initialised heads, one per draw."""
    weights = []
    biases = []
    for draw in range(count):
        head = init_head(width, classes, draw)
        weights.append(head.weight.detach())
        biases.append(head.bias.detach())
    return InitialHeads(torch.stack(weights), torch.stack(biases))


def fit_heads(
    start: InitialHeads,
    features: Float[Tensor, "draws images width"],
    labels: Int[Tensor, "draws images"],
    rate: float,
) -> InitialHeads:
    """Train the head of each draw on the features of its images, full-batch, with the recipe of fine-tuning.

    Heads of different draws are independent: AdamW updates each weight separately, and gradients are not clipped.
    """
    weight = start.weight.clone().requires_grad_()
    bias = start.bias.clone().requires_grad_()
    groups: list[dict[str, Any]] = [{"params": [weight]}, {"params": [bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(
        groups, lr=rate, betas=BETAS, weight_decay=RELEASED.weight_decay, fused=True
    )
    for step in range(STEPS):
        logits = (features @ weight.mT + bias[:, None]).flatten(0, 1)
        losses = F.cross_entropy(
            logits, labels.flatten(), label_smoothing=RELEASED.label_smoothing, reduction="sum"
        )
        optimizer.zero_grad()
        (losses / labels.shape[1]).backward()  # type: ignore[no-untyped-call]
        for group in optimizer.param_groups:
            group["lr"] = rate * RELEASED.learning_rate_factor(step, STEPS)
        optimizer.step()
    return InitialHeads(weight.detach(), bias.detach())


def tune_heads(
    start: InitialHeads, task: EmbeddedTask, train_rows: Rows, validation_rows: Rows
) -> tuple[InitialHeads, list[ChosenRate]]:
    """Fit a head for each draw to its rows of the training part, at the rate that is best on its validation rows.

    Of equally good rates the lowest is chosen. Draws are fitted together in batches that hold no more images than the
    training part, to bound memory.
    """
    images = train_rows.shape[1]
    draws_at_once = max(1, len(task.train.labels) // images)
    weights = []
    biases = []
    chosen = []
    for first in range(0, len(train_rows), draws_at_once):
        draws = slice(first, first + draws_at_once)
        begin = InitialHeads(start.weight[draws], start.bias[draws])
        train = task.train.select(train_rows[draws])
        validation = task.validation.select(validation_rows[draws])
        tried = [fit_heads(begin, train.features, train.labels, rate) for rate in RATES]
        accuracy = torch.stack([head.accuracy(validation) for head in tried])
        for draw, best in enumerate(accuracy.argmax(0).tolist()):
            head = tried[best]
            weights.append(head.weight[draw])
            biases.append(head.bias[draw])
            chosen.append(ChosenRate(RATES[best], float(accuracy[best, draw]), images))
    return InitialHeads(torch.stack(weights), torch.stack(biases)), chosen


def _label_subsets(
    orders: Sequence[tuple[RowsByClass, RowsByClass]],
) -> Iterator[tuple[dict[str, Any], Rows, Rows]]:
    """Yield each number of labels with the training rows and the validation rows of every draw.

    Shares that select the same images as another share are left out. All labels are a single draw.
    """

    def rows(part: int, draws: int = DRAWS, **subset: Any) -> Rows:
        """Return the rows of the training part (0) or the validation part (1) in each draw."""
        rows_of_draws = [first_rows(order[part], **subset) for order in orders[:draws]]
        return torch.from_numpy(np.stack(rows_of_draws))

    training_part, _ = orders[0]
    smallest_class = min(len(rows_of_class) for rows_of_class in training_part)
    for shots in SHOTS:
        if shots <= smallest_class:
            validation_rows = rows(1, shots=min(shots, MAX_SHOTS_TO_TUNE))
            yield {"per_class": shots}, rows(0, shots=shots), validation_rows
    for share in distinct_shares(orders[0]):
        draws = 1 if share == 1 else DRAWS
        train_rows = rows(0, draws, share=share)
        validation_rows = rows(1, draws, share=share)
        yield {"label_share": share}, train_rows, validation_rows


def _make_scores(
    name: str, head: InitialHeads, chosen: Sequence[ChosenRate], task: EmbeddedTask, **point: Any
) -> Iterator[Score]:
    """Yield one score per draw; each training has run all its steps and counts as converged."""
    is_correct = head.predictions(task.test.features) == task.test.labels
    for draw, choice in enumerate(chosen):
        yield make_score(
            task,
            f"{INIT_PROTOCOL}, {name}",
            chosen=choice.rate,
            validation_accuracy=choice.accuracy,
            is_correct=is_correct[draw],
            converged=True,
            num_train=choice.images,
            draw=draw,
            **point,
        )
