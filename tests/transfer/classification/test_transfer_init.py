"""Heads that begin from pre-training: the rows they take, what they answer before any training, and after."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bench.interfaces.method import METHODS
from bench.labels.subwords import SubwordEncoder
from bench.labels.vocabulary import read_vocabulary
from bench.labels.wordnet import NearestSynsetFinder, hypernyms, synset_keys_of_class_name
from bench.towers.head_file import LabelClassifier, TextEncoder
from bench.towers.tower_from import LoadedTower
from bench.train.build import build_untrained_tower
from bench.transfer.classification.fine_tune import FineTuningRecipe
from bench.transfer.classification.probe import EmbeddedTask, LabelledFeatures
from bench.transfer.classification.transfer_init import (
    DRAWS,
    STEPS,
    HeadsByDraw,
    fit_heads,
    fit_heads_at_best_rate,
    make_heads_from_nearest_labels,
    make_heads_from_prompts,
    make_random_heads,
    score_transfer_init,
)
from bench.transfer.feature_extractor import FeatureExtractor
from bench.transfer.tasks.image_sources import ArrayImageSource
from bench.transfer.tasks.tasks import LabelledImages, SingleLabelTask
from tests.small import small

ANIMALS = ("bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep", "zebra")
CPU = torch.device("cpu")


@pytest.fixture
def few_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    module = "bench.transfer.classification"
    monkeypatch.setattr(f"{module}.transfer_init.SHOTS", (1, 5))
    monkeypatch.setattr(f"{module}.transfer_init.LEARNING_RATES", (1e-2, 1e-1))
    monkeypatch.setattr(f"{module}.label_subsets.SHARES", (0.5, 1.0))


def task() -> SingleLabelTask:
    """Ten animals; an image is its class."""
    parts = []
    for count in (20, 5, 30):
        labels = np.arange(count * len(ANIMALS)) % len(ANIMALS)
        pixels = torch.from_numpy(labels.astype(np.uint8)).view(-1, 1, 1, 1).expand(-1, 3, 1, 1)
        parts.append(LabelledImages(ArrayImageSource(pixels), labels))
    return SingleLabelTask("animals", ANIMALS, *parts)


def subject(
    name: str,
    features: Callable[[np.ndarray], np.ndarray],
    classifier: LabelClassifier | None = None,
) -> FeatureExtractor:
    tower = build_untrained_tower(small("catlip"))
    return FeatureExtractor(
        name=name,
        embed=lambda images: features(images.pixels[:, 0, 0, 0].numpy()),
        tower=tower,
        device=CPU,
        experiment=None,
        loaded=LoadedTower(tower, name, "", label_classifier=classifier),
    )


def rows(width: int = 8) -> LabelClassifier:
    keys, draw = read_vocabulary("shipped-synsets").keys, torch.Generator().manual_seed(0)
    return LabelClassifier(
        torch.randn(len(keys), width, generator=draw), torch.randn(len(keys), generator=draw), keys
    )


def texts() -> TextEncoder:
    experiment = small("clip")
    pair = METHODS["clip"].build_model(build_untrained_tower(experiment), experiment)
    return TextEncoder(
        pair.eval(),
        SubwordEncoder(experiment.targets.subword_vocabulary),
        experiment.text.context_length,
    )


def test_class_head_copies_its_row_the_mean_row_or_a_random_row() -> None:
    of, random = rows(), make_random_heads(8, 3, DRAWS)
    head = make_heads_from_nearest_labels(of, ["dog", "cat, dog", "xyzzy"], random)
    dog, cat = (of.keys.index(f"n{number}") for number in (2084071, 2121620))
    for draw in range(DRAWS):
        assert torch.equal(head.weight[draw, 0], of.weight[dog])
        torch.testing.assert_close(head.weight[draw, 1], (of.weight[dog] + of.weight[cat]) / 2)
        assert torch.equal(head.weight[draw, 2], random.weight[draw, 2])
    torch.testing.assert_close(head.bias[0, 2], head.bias[0, :2].mean())
    assert not torch.equal(random.weight[0], random.weight[1])


def test_class_name_head_predicts_by_cosine() -> None:
    """A head cannot divide by the length of each projected feature; the answer is the same."""
    known = texts()
    features = torch.randn(50, known.pair.tower.width, generator=torch.Generator().manual_seed(1))
    head = make_heads_from_prompts(known, [(name,) for name in ANIMALS], features, 2)
    with torch.no_grad():
        projected = F.normalize(features @ known.pair.projection, dim=1)
        cosines = projected @ known.encode(ANIMALS).T
    text = features @ head.weight[0].T + head.bias[0]
    assert torch.equal(text.argmax(1), cosines.argmax(1))
    lengths = (features @ known.pair.projection.detach()).norm(dim=1, keepdim=True)
    expected = cosines * known.pair.log_scale.exp().detach() * lengths / lengths.mean()
    torch.testing.assert_close(text, expected, rtol=1e-4, atol=1e-4)


def test_text_tower_has_a_head_of_prompts(
    few_trainings: None,  # noqa: ARG001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = texts()
    monkeypatch.setattr("bench.transfer.classification.transfer_init.STEPS", 2)
    monkeypatch.setattr(LoadedTower, "read_text_encoder", lambda _: known)
    width = known.pair.tower.width
    scores = score_transfer_init(subject("clip", lambda labels: np.eye(width)[labels]), task())
    assert {score.protocol for score in scores} == {
        "transfer-init, random head",
        "transfer-init, prompt templates",
    }


def test_batched_head_training_equals_torch_per_draw() -> None:
    """By a plain loop over a linear layer, with the recipe's rates, decay and smoothing."""
    draw = torch.Generator().manual_seed(2)
    features, labels = (
        torch.randn(3, 12, 8, generator=draw),
        torch.randint(0, 4, (3, 12), generator=draw),
    )
    start, rate, descent = make_random_heads(8, 4, 3), 1e-2, FineTuningRecipe()
    joint = fit_heads(start, features, labels, rate)
    for one in range(3):
        layer = torch.nn.Linear(8, 4)
        layer.load_state_dict({"weight": start.weight[one], "bias": start.bias[one]})
        groups = [
            {"params": [layer.weight], "weight_decay": 0.05},
            {"params": [layer.bias], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=rate)
        for step in range(STEPS):
            for group in optimizer.param_groups:
                group["lr"] = rate * descent.learning_rate_factor(step, STEPS)
            optimizer.zero_grad()
            F.cross_entropy(layer(features[one]), labels[one], label_smoothing=0.1).backward()
            optimizer.step()
        torch.testing.assert_close(joint.weight[one], layer.weight.detach(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(joint.bias[one], layer.bias.detach(), rtol=1e-4, atol=1e-5)


def test_each_draw_is_tuned_on_its_own_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the other draws hold; and no more images are ever gathered than the part has."""
    draw = torch.Generator().manual_seed(3)
    images, classes, width, draws = 60, 4, 8, 4

    def part() -> LabelledFeatures:
        labels = torch.randint(0, classes, (images,), generator=draw)
        noise = torch.randn(images, width, generator=draw)
        return LabelledFeatures(F.one_hot(labels, width) + noise, labels)

    toy = EmbeddedTask("toy", ("a", "b", "c", "d"), part(), part(), part())
    rows, others = (
        torch.stack([torch.randperm(images, generator=draw)[:count] for _ in range(draws)])
        for count in (16, 8)
    )
    start, gathered = make_random_heads(width, classes, draws), list[int]()

    def noting(
        begin: HeadsByDraw, features: torch.Tensor, labels: torch.Tensor, rate: float
    ) -> HeadsByDraw:
        gathered.append(labels.numel())
        return fit_heads(begin, features, labels, rate)

    monkeypatch.setattr("bench.transfer.classification.transfer_init.fit_heads", noting)
    joint, chosen = fit_heads_at_best_rate(start, toy, rows, others)
    assert max(gathered) <= images
    assert len({one.learning_rate for one in chosen}) > 1  # what is pooled has one rate
    for one in range(draws):
        own = slice(one, one + 1)
        separate, (best,) = fit_heads_at_best_rate(
            HeadsByDraw(start.weight[own], start.bias[own]), toy, rows[own], others[own]
        )
        assert best == chosen[one]
        torch.testing.assert_close(separate.weight[0], joint.weight[one])


def test_copied_rows_classify_after_one_image_per_class(few_trainings: None) -> None:  # noqa: ARG001
    """Features that are the classes themselves; the random head is not, and learns."""
    of = rows(64)
    nearest = NearestSynsetFinder(of.keys, hypernyms())
    labels = [nearest.nearest(synset_keys_of_class_name(name)[0]) for name in ANIMALS]
    weight = torch.zeros_like(of.weight)
    weight[[of.keys.index(key) for key in labels], torch.arange(len(ANIMALS))] = 5.0
    known = LabelClassifier(weight, torch.zeros(len(of.keys)), of.keys)
    scores = score_transfer_init(subject("knows", lambda row: np.eye(64)[row], known), task())
    accuracy: dict[tuple[str, object], list[float]] = {}
    for score in scores:
        place = score.per_class if score.label_share is None else f"{score.label_share:.0%}"
        accuracy.setdefault((score.protocol, place), []).append(
            score.correct.count("1") / len(score.correct)
        )
    copied = accuracy["transfer-init, copied rows", 1]
    assert min(copied) > 0.85  # two animals have one label
    assert min(accuracy["transfer-init, random head", 5]) > 0.99
    assert {(place == "100%", len(draws)) for (_, place), draws in accuracy.items()} == {
        (False, DRAWS),
        (True, 1),
    }
