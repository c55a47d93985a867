"""Heads that begin from pre-training: the rows they take, what they answer before any training, and after."""

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bench.interfaces.method import METHODS
from bench.labels.subwords import SubwordIds
from bench.labels.vocabulary import read_vocabulary
from bench.labels.wordnet import hypernyms
from bench.records.record import Record, Transfer
from bench.records.scores import MetricScore, Score
from bench.tables.formats import NBSP
from bench.towers.head_file import LabelClassifier, TextEncoder
from bench.towers.tower_from import LoadedTower
from bench.train.build import build_untrained_tower
from bench.transfer.classification.fine_tune import FineTuning
from bench.transfer.classification.probe import EmbeddedTask, LabelledFeatures
from bench.transfer.classification.transfer_init import (
    DRAWS,
    STEPS,
    InitialHeads,
    class_names_for_prompts,
    copy_head,
    fit_heads,
    make_random_head,
    make_text_head,
    match_labels,
    score_initial_heads,
    tune_heads,
)
from bench.transfer.families.pack_tasks import SILHOUETTES
from bench.transfer.feature_extractor import FeatureExtractor
from bench.transfer.prompt_templates import read_templates
from bench.transfer.score import score_task
from bench.transfer.tasks.tasks import SingleLabelTask, pack_task
from bench.transfer.terminal_tables import transfer_tables
from tests.small import circumstances, small

ANIMALS = ("bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep", "zebra")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def task(results: Path) -> SingleLabelTask:
    return pack_task(SILHOUETTES[1], results / "cache")


def rows(width: int = 8) -> LabelClassifier:
    keys, draw = read_vocabulary("pack-synsets").keys, torch.Generator().manual_seed(0)
    return LabelClassifier(
        torch.randn(len(keys), width, generator=draw), torch.randn(len(keys), generator=draw), keys
    )


def texts() -> TextEncoder:
    experiment = small("clip")
    pair = METHODS["clip"].build_model(build_untrained_tower(experiment), experiment)
    return TextEncoder(
        pair.eval(),
        SubwordIds(experiment.targets.subword_vocabulary),
        experiment.text.context_length,
    )


def test_seven_animals_are_labels_and_three_have_a_near_label() -> None:
    found = dict(
        zip(ANIMALS, match_labels(ANIMALS, read_vocabulary("pack-synsets").keys), strict=True)
    )
    assert all(len(of) == 1 for of in found.values())
    near = {name: of[0] for name, of in found.items() if of[0].similarity < 1}
    assert len(near) == 3
    for name, match in near.items():
        assert match.path[0] == f"{name}.n.01"
        assert match.path[-1] == hypernyms().names[match.key]
        assert match.similarity == pytest.approx(1 / len(match.path))


def test_class_head_copies_its_row_the_mean_row_or_a_random_row() -> None:
    of, random = rows(), make_random_head(8, 3, DRAWS)
    found = match_labels(["dog", "cat, dog", "xyzzy"], of.keys)
    head = copy_head(of, found, random)
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
    head = make_text_head(known, [(name,) for name in ANIMALS], features, 2)
    with torch.no_grad():
        projected = F.normalize(features @ known.pair.projection, dim=1)
        cosines = projected @ known.encode(ANIMALS).T
    text = features @ head.weight[0].T + head.bias[0]
    assert torch.equal(text.argmax(1), cosines.argmax(1))
    lengths = (features @ known.pair.projection.detach()).norm(dim=1, keepdim=True)
    expected = cosines * known.pair.log_scale.exp().detach() * lengths / lengths.mean()
    torch.testing.assert_close(text, expected, rtol=1e-4, atol=1e-4)


def test_imagenet_classes_have_the_names_of_clips_authors() -> None:
    assert class_names_for_prompts(["n01440764", "n03126707", "sea-lion"]) == [
        "tench",
        "construction crane",
        "sea lion",
    ]


def test_templates_of_a_file_are_read_and_others_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("a photo of a {}.\n\n {c}, drawn \n")
    found = read_templates(str(file))
    assert found.prompts("dog") == ("a photo of a dog.", "dog, drawn")
    assert (
        found.title
        == f"2 templates of mine.txt (sha256 {hashlib.sha256(file.read_bytes()).hexdigest()[:8]})"
    )
    assert read_templates().title == "80 templates of open_clip for ImageNet"
    assert read_templates().prompts("dog")[0] == "a bad photo of a dog."
    for content, text in {
        b"a photo of a {}.\na dog": "mine.txt: line 2 has no {} or {c} for the class name: 'a dog'",
        b"\n": "mine.txt has no templates: write one per line, such as 'a photo of a {}.'",
        b"\xff{}": "mine.txt: 'utf-8' codec",
    }.items():
        file.write_bytes(content)
        with pytest.raises(ValueError, match=re.escape(text)):
            read_templates(str(file))


def test_text_tower_has_a_head_of_class_names_and_one_of_prompts(
    task: SingleLabelTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "bench.transfer.classification.transfer_init"
    for name, few in {"SHOTS": (1,), "RATES": (1e-3,), "DRAWS": 2}.items():
        monkeypatch.setattr(f"{module}.{name}", few)
    monkeypatch.setattr("bench.transfer.classification.label_subsets.SHARES", (1.0,))
    known = texts()
    monkeypatch.setattr(LoadedTower, "read_text_encoder", lambda _: known)
    tower = build_untrained_tower(small("clip"))
    subject = FeatureExtractor(
        name="clip",
        embed=lambda images: np.random.default_rng(len(images)).normal(
            size=(len(images), tower.width)
        ),
        tower=tower,
        device=CPU,
        experiment=None,
        loaded=LoadedTower(tower, "clip", ""),
    )
    (tmp_path / "mine.txt").write_text("{}\na {}\n")
    measured = score_task(subject, task, "transfer-init", str(tmp_path / "mine.txt"))
    prompts = {score.protocol: score.prompts for score in measured.scores}
    assert prompts.pop("transfer-init, prompt templates").startswith(
        "2 templates of mine.txt (sha256 "
    )
    assert prompts == {"transfer-init, random head": "", "transfer-init, class names": "class name"}
    beside = replace(task, templates=str(tmp_path / "mine.txt"))
    assert [score.prompts for score in score_task(subject, beside, "transfer-init").scores] == [
        score.prompts for score in measured.scores
    ]


def test_batched_head_training_equals_torch_per_draw() -> None:
    """By a plain loop over a linear layer, with the recipe's rates, decay and smoothing."""
    draw = torch.Generator().manual_seed(2)
    features, labels = (
        torch.randn(3, 12, 8, generator=draw),
        torch.randint(0, 4, (3, 12), generator=draw),
    )
    start, rate, descent = make_random_head(8, 4, 3), 1e-2, FineTuning()
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
    images, classes, width, draws = 60, 4, 8, 10

    def part() -> LabelledFeatures:
        labels = torch.randint(0, classes, (images,), generator=draw)
        noise = torch.randn(images, width, generator=draw)
        return LabelledFeatures(F.one_hot(labels, width) + noise, labels)

    toy = EmbeddedTask("toy", ("a", "b", "c", "d"), part(), part(), part())
    rows, others = (
        torch.stack([torch.randperm(images, generator=draw)[:count] for _ in range(draws)])
        for count in (16, 8)
    )
    start, gathered = make_random_head(width, classes, draws), list[int]()

    def noting(
        begin: InitialHeads, features: torch.Tensor, labels: torch.Tensor, rate: float
    ) -> InitialHeads:
        gathered.append(labels.numel())
        return fit_heads(begin, features, labels, rate)

    monkeypatch.setattr("bench.transfer.classification.transfer_init.fit_heads", noting)
    joint, chosen = tune_heads(start, toy, rows, others)
    assert max(gathered) <= images
    assert len({one.rate for one in chosen}) > 1  # what is pooled has one rate
    for one in range(draws):
        own = slice(one, one + 1)
        separate, (best,) = tune_heads(
            InitialHeads(start.weight[own], start.bias[own]), toy, rows[own], others[own]
        )
        assert best == chosen[one]
        torch.testing.assert_close(separate.weight[0], joint.weight[one])


def test_copied_rows_classify_before_training(
    task: SingleLabelTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features that are the classes themselves; the random head is not, and learns."""
    monkeypatch.setattr("bench.transfer.classification.transfer_init.SHOTS", (1, 5))
    monkeypatch.setattr("bench.transfer.classification.transfer_init.RATES", (1e-2, 1e-1))
    monkeypatch.setattr("bench.transfer.classification.label_subsets.SHARES", (0.05, 1.0))
    labels = {id(part.images): part.labels for part in (task.train, task.validation, task.test)}
    found = match_labels(task.classes, read_vocabulary("pack-synsets").keys)
    of = rows(len(task.classes))
    column = {key: place for place, key in enumerate(of.keys)}
    weight = torch.zeros_like(of.weight)
    for place, match in enumerate(found):
        weight[column[match[0].key], place] = 5.0
    known = LabelClassifier(weight, torch.zeros(len(of.keys)), of.keys)
    tower = build_untrained_tower(small("catlip"))
    subject = FeatureExtractor(
        name="knows",
        embed=lambda images: np.eye(len(task.classes))[labels[id(images)]],
        tower=tower,
        device=CPU,
        experiment=None,
        loaded=LoadedTower(tower, "knows", "", label_classifier=known),
    )
    scored = score_initial_heads(subject, task)
    text = [one for one in scored if isinstance(one, MetricScore)]
    assert [one.class_name for one in text] == list(ANIMALS)
    accuracy: dict[tuple[str, int | str | None], list[float]] = {}
    for one in scored:
        if isinstance(one, Score) and one.task == task.name:
            point = one.per_class if one.label_share is None else f"{one.label_share:.0%}"
            accuracy.setdefault((one.protocol, point), []).append(
                one.correct.count("1") / len(one.correct)
            )
    copied = accuracy["transfer-init, copied rows", 0]
    distinct = len({match[0].key for match in found}) == len(ANIMALS)
    assert all(share > (0.99 if distinct else 0.75) for share in copied)
    assert max(accuracy["transfer-init, random head", 0]) < 0.6
    assert min(accuracy["transfer-init, random head", 5]) > 0.99
    assert {(point == "100%", len(shares)) for (_, point), shares in accuracy.items()} == {
        (False, DRAWS),
        (True, 1),
    }
    assert {one.task for one in scored} == {task.name, f"{task.name}, 7 in the vocabulary"}
    heads, whole, *others, labels_table = transfer_tables([recorded(scored)])
    assert [row["similarity"] for row in labels_table.rows] == [one.value for one in text]
    assert [row["head"] for row in heads.rows] == [
        "random head",
        "copied rows",
        "copied rows, gain over random",
    ]
    value, low, high = heads.rows[0]["1"]
    assert low <= value <= high
    assert whole.rows[0][f"100{NBSP}%"] == (1.0, None, None)
    assert heads.rows[2]["no labels"][0] == pytest.approx(
        copied[0] - fmean(accuracy["transfer-init, random head", 0])
    )
    assert [list(table.rows[0])[3:] for table in others] == [["no labels", "1", "5"]]


def recorded(scored: list[Score | MetricScore]) -> Record:
    scores, metrics = (
        [one for one in scored if isinstance(one, kind)] for kind in (Score, MetricScore)
    )
    measured = Transfer(
        subject="knows", images=1, budgets=(), scores=tuple(scores), metrics=tuple(metrics)
    )
    return Record(comparison="c", experiment=None, circumstances=circumstances(), measured=measured)
