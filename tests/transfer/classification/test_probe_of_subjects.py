"""The linear probe beside scikit-learn on the features that the default run scores, of the pack's tasks and a folder.

The subjects are an untrained tower, a briefly trained one, raw pixels, and HOG with colours. scikit-learn's own choice
over the tried penalties, on the same validation part, scores as the probe's choice.
"""

import warnings
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from bench.data.manifest import pack_cache
from bench.experiment.experiments import EXPERIMENTS
from bench.experiment.settings import with_settings
from bench.interfaces.catalog import LOWER_BOUNDS, RANDOM_INIT, SINGLE_LABEL, TASKS
from bench.transfer.classification.hyperparameter_search import INVERSE_L2, INVERSE_L2_LIMITS
from bench.transfer.classification.probe import (
    EmbeddedTask,
    LabelledFeatures,
    embed_task,
    score_linear_probe,
)
from bench.transfer.families import TASKS as BUILT_IN
from bench.transfer.feature_extractor import FeatureExtractor
from bench.transfer.score import open_extractor
from bench.transfer.tasks.file_tasks import load_folder_task
from bench.transfer.tasks.tasks import SingleLabelTask
from tests.chaos.short import train_in_process

CPU, TINY = (
    torch.device("cpu"),
    with_settings(EXPERIMENTS["clip-tiny"], ["images=2560", "warmup_images=256"]),
)
DIGITS = "digits"


@pytest.fixture(scope="module")
def subject_of(
    decoded: Path,  # noqa: ARG001
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], FeatureExtractor]:
    """Each subject by its name, whose features of a task are computed once."""
    results = tmp_path_factory.mktemp("trained")

    @cache
    def open_subject(name: str) -> FeatureExtractor:
        if name == "trained":
            train_in_process(TINY, results)
            name = str(results / "tower.safetensors")
        return open_extractor(name, TINY, CPU)

    return open_subject


@pytest.fixture(scope="module")
def task_of(
    decoded: Path,  # noqa: ARG001
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], SingleLabelTask]:
    """The pack's tasks, and half of scikit-learn's digits as a folder of images."""
    root = tmp_path_factory.mktemp("digits")
    for number, (pixels, label) in enumerate(
        zip(*(one[:900] for one in load_digits(return_X_y=True)), strict=True)
    ):
        path = root / ("test" if number % 3 == 2 else "train") / str(label) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels.reshape(8, 8) * 255 / 16).astype(np.uint8)).convert("RGB").save(
            path
        )
    digits = cache(lambda: load_folder_task(root, root / "cache"))
    return lambda name: digits() if name == DIGITS else TASKS[name].load(pack_cache())


def fit_scikit_learn(
    inverse_penalties: Sequence[float], train: LabelledFeatures, other: LabelledFeatures
) -> dict[float, int]:
    """Return how many of the other images scikit-learn's classifiers of standardised features sort rightly.

    Each begins at the optimum of the stronger penalty before it.
    """
    times = 2 if len(train.labels.unique()) == 2 else 1  # of two classes it penalises twice as much
    scaler, found = StandardScaler().fit(train.features.numpy()), dict[float, int]()
    model = LogisticRegression(tol=1e-6, max_iter=2_000, warm_start=True)
    for inverse_penalty in sorted(inverse_penalties):
        with warnings.catch_warnings():
            # Rounding may stop it before a gradient of 1e-6.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.set_params(C=times * inverse_penalty).fit(
                scaler.transform(train.features.numpy()), train.labels.numpy()
            )
        answers = model.predict(scaler.transform(other.features.numpy()))
        found[inverse_penalty] = int((answers == other.labels.numpy()).sum())
    return found


def tried_strengths(chosen: float) -> list[float]:
    """Return the penalties that the search tries before it ends at the chosen one."""
    ratio, tried = INVERSE_L2[-1] / INVERSE_L2[-2], [*INVERSE_L2]
    while chosen > tried[-1] / ratio * 1.01 and tried[-1] * ratio <= INVERSE_L2_LIMITS[1]:
        tried.append(tried[-1] * ratio)
    while chosen < tried[0] * ratio / 1.01 and tried[0] / ratio >= INVERSE_L2_LIMITS[0]:
        tried.insert(0, tried[0] / ratio)
    return tried


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        pytest.param(
            subject, name, marks=pytest.mark.minutes if name == DIGITS else pytest.mark.exhaustive
        )
        for subject in (RANDOM_INIT, "trained", *LOWER_BOUNDS)
        for name in (
            *(task.name for task in BUILT_IN if task.labels == SINGLE_LABEL and not task.layout),
            DIGITS,
        )
    ],
)
def test_linear_probe_chooses_and_scores_as_scikit_learn(
    subject: str,
    name: str,
    subject_of: Callable[[str], FeatureExtractor],
    task_of: Callable[[str], SingleLabelTask],
) -> None:
    features, task = subject_of(subject), task_of(name)
    (score,), embedded = score_linear_probe(features, task), embed_task(features, task)
    assert score.converged
    assert INVERSE_L2_LIMITS[0] < score.chosen < INVERSE_L2_LIMITS[1]
    tried = tried_strengths(score.chosen)
    assert tried[0] < score.chosen < tried[-1]
    both, right = embedded.train.concatenate(embedded.validation), score.correct.count("1")
    assert abs(fit_scikit_learn([score.chosen], both, embedded.test)[score.chosen] - right) <= 1
    check_choice(embedded, tried, score.chosen, score.validation_accuracy)


def check_choice(task: EmbeddedTask, tried: list[float], chosen: float, accuracy: float) -> None:
    """Its best penalty is as good on the validation part, and the chosen one is among its best, to an image."""
    found = fit_scikit_learn(tried, task.train, task.validation)
    best, nearest = (
        max(found.values()),
        min(found, key=lambda inverse_penalty: abs(np.log(inverse_penalty / chosen))),
    )
    assert abs(best - accuracy * len(task.validation.labels)) <= 1
    assert best - found[nearest] <= 1
