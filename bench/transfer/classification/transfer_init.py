"""Heads initialised from pre-training, compared with random heads on few labels of a task.

For a tower with a classifier, each class takes the row of the label that is nearest in WordNet. For a tower with a text
tower, each class takes the mean embedding of several prompts with its name.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from open_clip import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES
from timm.data.imagenet_info import ImageNetInfo
from torch import Tensor

from bench.labels.wordnet import NearestSynsetFinder, hypernyms, synset_keys_of_class_name
from bench.records.scores import AccuracyScore
from bench.towers.head_file import LabelClassifier, Prompts, TextEncoder
from bench.towers.tower_from import LoadedTower
from bench.transfer.classification.fine_tune import RELEASED, make_random_head
from bench.transfer.classification.label_subsets import iterate_share_subsets, make_shots_subset
from bench.transfer.classification.probe import (
    DRAWS,
    EmbeddedTask,
    LabelledFeatures,
    embed_task,
    make_test_score,
    shuffle_rows_for_draws,
)
from bench.transfer.feature_extractor import FeatureExtractor
from bench.transfer.label_curves import COPIED_ROWS, PROMPTS, RANDOM_HEAD, format_init_protocol_name
from bench.transfer.tasks.tasks import SingleLabelTask
from bench.transfer.transfer_training import BETAS

SHOTS = (1, 2, 5, 20)  # per class
LEARNING_RATES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
STEPS = 100  # full-batch
RowsOfDraws = Int[Tensor, "draws _"]  # rows of a part, for each draw


class HeadsByDraw(NamedTuple):
    """Linear heads, one per draw of the labelled images."""

    weight: Float[Tensor, "draws classes width"]
    bias: Float[Tensor, "draws classes"]

    def predict(
        self, features: Float[Tensor, "*draws images width"]
    ) -> Int[Tensor, "draws images"]:
        """Return the class numbers that each draw's head predicts."""
        return (features @ self.weight.mT + self.bias[:, None]).argmax(-1)

    def compute_accuracies(self, part: LabelledFeatures) -> Float[Tensor, " draws"]:
        """Return the accuracy of each draw's head on the images of a part."""
        return (self.predict(part.features) == part.labels).float().mean(-1)


class ChosenLearningRate(NamedTuple):
    """The learning rate chosen for a draw, its validation accuracy, and the number of training images."""

    learning_rate: float
    validation_accuracy: float
    num_train: int


def score_transfer_init(extractor: FeatureExtractor, task: SingleLabelTask) -> list[AccuracyScore]:
    """Score every initial head of a tower on a task after training on few labels; `lit` scores texts without any.

    A rate is chosen for each head, number of labels and draw on validation images of that draw: as many per class as
    for training but at most four, or the same share.
    """
    embedded = embed_task(extractor, task, torch.device("cpu"), torch.float32)
    orders = shuffle_rows_for_draws(embedded)
    smallest_class = min(map(len, orders[0].train))
    subsets = [make_shots_subset(orders, shots) for shots in SHOTS if shots <= smallest_class]
    subsets += iterate_share_subsets(orders)
    scores = list[AccuracyScore]()
    for name, start in _make_initial_heads(extractor.loaded, embedded).items():
        for subset in subsets:
            train_rows = torch.from_numpy(np.stack(subset.train_rows))
            validation_rows = torch.from_numpy(np.stack(subset.validation_rows))
            heads, chosen = fit_heads_at_best_rate(start, embedded, train_rows, validation_rows)
            scores += _make_scores_by_draw(name, heads, chosen, embedded, **subset.score_fields)
    return scores


def _make_initial_heads(loaded: LoadedTower | None, task: EmbeddedTask) -> dict[str, HeadsByDraw]:
    """Return a tower's heads before training by their names; reference features have the random heads alone."""
    random_heads = make_random_heads(task.train.features.shape[1], len(task.classes), DRAWS)
    heads = {RANDOM_HEAD: random_heads}
    if loaded is None:
        return heads
    classifier = loaded.label_classifier
    if classifier is not None and classifier.keys:
        heads[COPIED_ROWS] = make_heads_from_nearest_labels(classifier, task.classes, random_heads)
    text_encoder = loaded.read_text_encoder()
    if text_encoder is not None:
        prompts = make_class_prompts(task.classes, OPENAI_IMAGENET_TEMPLATES)
        heads[PROMPTS] = make_heads_from_prompts(text_encoder, prompts, task.train.features, DRAWS)
    return heads


def make_heads_from_nearest_labels(
    classifier: LabelClassifier, class_names: Sequence[str], random_heads: HeadsByDraw
) -> HeadsByDraw:
    """Return heads that copy, for each class, the classifier's row of the nearest label by WordNet path similarity.

    A class takes the mean row for several synsets, a random row for none. A bias reflects the frequency of a label; a
    class without a synset gets the mean bias of the other classes. Source: Mehta et al. 2024, arXiv:2404.15653
    ("Transfer Init").
    """
    labels = NearestSynsetFinder(classifier.keys, hypernyms())
    row_of_key = {key: row for row, key in enumerate(classifier.keys)}
    weight = random_heads.weight.clone()
    bias = random_heads.bias.clone()
    with_synset = torch.zeros(len(class_names), dtype=torch.bool)
    for row, name in enumerate(class_names):
        synsets = synset_keys_of_class_name(name)
        if synsets:
            copied = [row_of_key[labels.nearest(synset)] for synset in synsets]
            weight[:, row] = classifier.weight[copied].mean(0)
            bias[:, row] = classifier.bias[copied].mean()
            with_synset[row] = True
    if with_synset.any():
        bias[:, ~with_synset] = bias[0, with_synset].mean()
    return HeadsByDraw(weight, bias)


def make_class_prompts(
    classes: Sequence[str], templates: Sequence[Callable[[str], str]]
) -> list[tuple[str, ...]]:
    """Return the prompts that templates make of each class's name; ImageNet's synsets have the names of CLIP's authors.

    In other names "-" and "_" are spaces.
    """
    synsets = ImageNetInfo().label_names()  # type: ignore[no-untyped-call]
    names_by_synset = dict(zip(synsets, IMAGENET_CLASSNAMES, strict=True))
    prompts = []
    for class_name in classes:
        name = names_by_synset.get(class_name, re.sub("[-_]", " ", class_name))
        prompts.append(tuple(template(name) for template in templates))
    return prompts


def make_heads_from_prompts(
    texts: TextEncoder,
    prompts: Prompts,
    features: Float[Tensor, "images width"],
    num_draws: int,
) -> HeadsByDraw:
    """Return equal heads for all draws, from the text features of each class's prompts.

    Their logits equal the logits of pre-training up to a scale.

    Pre-training divides each logit by the norm of the image's projected feature. A linear head cannot, and divides by
    the mean norm over `features` instead, which leaves the predictions unchanged.
    """
    length = (features @ texts.pair.projection.detach()).norm(dim=1).mean()
    weight = texts.make_classifier_rows(prompts) / length
    weights = weight.expand(num_draws, -1, -1).clone()
    return HeadsByDraw(weights, torch.zeros(num_draws, len(prompts)))


def make_random_heads(width: int, num_classes: int, num_draws: int) -> HeadsByDraw:
    """Return randomly initialised heads, one per draw."""
    weights = []
    biases = []
    for draw in range(num_draws):
        head = make_random_head(width, num_classes, draw)
        weights.append(head.weight.detach())
        biases.append(head.bias.detach())
    return HeadsByDraw(torch.stack(weights), torch.stack(biases))


def fit_heads(
    initial_heads: HeadsByDraw,
    features: Float[Tensor, "draws images width"],
    labels: Int[Tensor, "draws images"],
    learning_rate: float,
) -> HeadsByDraw:
    """Return heads trained on the features of each draw's images, full-batch, with the recipe of fine-tuning.

    Heads of different draws are independent: AdamW updates each weight separately, and gradients are not clipped.
    """
    weight = initial_heads.weight.clone().requires_grad_()
    bias = initial_heads.bias.clone().requires_grad_()
    groups: list[dict[str, Any]] = [{"params": [weight]}, {"params": [bias], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(
        groups, lr=learning_rate, betas=BETAS, weight_decay=RELEASED.weight_decay, fused=True
    )
    for step in range(STEPS):
        logits = (features @ weight.mT + bias[:, None]).flatten(0, 1)
        losses = F.cross_entropy(
            logits, labels.flatten(), label_smoothing=RELEASED.label_smoothing, reduction="sum"
        )
        optimizer.zero_grad()
        (losses / labels.shape[1]).backward()  # type: ignore[no-untyped-call]
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * RELEASED.learning_rate_factor(step, STEPS)
        optimizer.step()
    return HeadsByDraw(weight.detach(), bias.detach())


def fit_heads_at_best_rate(
    initial_heads: HeadsByDraw,
    task: EmbeddedTask,
    train_rows: RowsOfDraws,
    validation_rows: RowsOfDraws,
) -> tuple[HeadsByDraw, list[ChosenLearningRate]]:
    """Return heads fitted to each draw's training rows, at the rate that is best on its validation rows, and the rates.

    Of equally good rates the lowest is chosen. Draws are fitted together in batches that hold no more images than the
    training part, to bound memory.
    """
    num_train = train_rows.shape[1]
    draws_at_once = max(1, len(task.train.labels) // num_train)
    weights = []
    biases = []
    chosen = []
    for first in range(0, len(train_rows), draws_at_once):
        draws = slice(first, first + draws_at_once)
        begin = HeadsByDraw(initial_heads.weight[draws], initial_heads.bias[draws])
        train = task.train.select(train_rows[draws])
        validation = task.validation.select(validation_rows[draws])
        tried = [fit_heads(begin, train.features, train.labels, rate) for rate in LEARNING_RATES]
        accuracy = torch.stack([head.compute_accuracies(validation) for head in tried])
        for draw, best in enumerate(accuracy.argmax(0).tolist()):
            head = tried[best]
            weights.append(head.weight[draw])
            biases.append(head.bias[draw])
            chosen.append(
                ChosenLearningRate(LEARNING_RATES[best], float(accuracy[best, draw]), num_train)
            )
    return HeadsByDraw(torch.stack(weights), torch.stack(biases)), chosen


def _make_scores_by_draw(
    name: str,
    heads: HeadsByDraw,
    chosen: Sequence[ChosenLearningRate],
    task: EmbeddedTask,
    **score_fields: Any,
) -> Iterator[AccuracyScore]:
    """Yield one score per draw; each training has run all its steps and counts as converged."""
    correct = heads.predict(task.test.features) == task.test.labels
    for draw, choice in enumerate(chosen):
        yield make_test_score(
            task,
            format_init_protocol_name(name),
            chosen=choice.learning_rate,
            validation_accuracy=choice.validation_accuracy,
            correct=correct[draw],
            converged=True,
            num_train=choice.num_train,
            draw=draw,
            **score_fields,
        )
