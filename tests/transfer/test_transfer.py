"""What is tuned is tuned on one part and reported on another, and the parts share nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bench.config import Experiment
from bench.data.pack import load_pictures
from bench.experiments import EXPERIMENTS
from bench.run import untrained_tower
from bench.towers import Made, how_made, newest_towers
from bench.transfer.features import REFERENCE_FEATURES, tower_features
from bench.transfer.probe import logistic_regression, score, standardised_and_rotated
from bench.transfer.score import score_tower, score_untrained
from bench.transfer.tasks import Part, Task, pack_tasks
from models.checkpoint import load_weights, save_tower
from models.image_tower import build_image_tower

CPU = torch.device("cpu")
SIZES = {
    "Twemoji group": (8, 822, 822),
    "Twemoji subgroup": (23, 352, 352),
    "rooms": (10, 338, 334),
    "silhouettes, 20 per class": (10, 200, 2000),
    "silhouettes, 100 per class": (10, 1000, 2000),
}


@pytest.fixture(scope="module")
def tasks(results: Path) -> list[Task]:
    return pack_tasks(results / "cache")


def test_the_tasks_have_their_sizes(tasks: list[Task]) -> None:
    found = {
        task.name: (len(task.classes), len(task.train.labels) + len(task.validation.labels), len(task.test.labels))
        for task in tasks
    }
    assert found == SIZES


def test_no_picture_is_in_two_parts(tasks: list[Task]) -> None:
    for task in tasks:
        parts = [
            {picture.numpy().tobytes() for picture in part.pixels} for part in (task.train, task.validation, task.test)
        ]
        assert not parts[0] & parts[2]
        assert not parts[1] & parts[2]


def test_every_class_is_in_every_part(tasks: list[Task]) -> None:
    for task in tasks:
        for part in (task.train, task.validation, task.test):
            assert set(part.labels) == set(range(len(task.classes)))


def test_pictures_of_one_caption_stay_on_one_side(results: Path, tasks: list[Task]) -> None:
    rooms = load_pictures("sweethome3d", results / "cache")
    captions: dict[bytes, str] = {p.numpy().tobytes(): c for p, c in zip(rooms.pixels, rooms.captions, strict=True)}
    task = next(task for task in tasks if task.name == "rooms")
    sides = [
        {captions[p.numpy().tobytes()] for part in side for p in part.pixels}
        for side in ((task.train, task.validation), (task.test,))
    ]
    assert not sides[0] & sides[1]


def test_few_shots_are_scored_on_the_same_test(tasks: list[Task]) -> None:
    assert torch.equal(tasks[3].test.pixels, tasks[4].test.pixels)


def toy_task(separable: bool) -> Task:
    """Classes told by the brightness of their pictures, or by nothing."""
    draw = np.random.default_rng(0)

    def part(count: int) -> Part:
        labels = draw.integers(0, 2, count)
        shown = labels if separable else draw.integers(0, 2, count)
        pixels = torch.from_numpy((shown * 180 + draw.integers(0, 60, count)).astype(np.uint8))
        return Part(pixels.view(-1, 1, 1, 1).expand(-1, 4, 64, 64).contiguous(), labels)

    return Task("toy", ("dark", "bright"), part(60), part(30), part(200))


def brightness(part: Part) -> np.ndarray:
    """One number, and a constant beside it: k-NN goes by angles."""
    level = part.pixels[:, :1, 0, 0].double().numpy()
    return np.hstack([level, np.full_like(level, 120)])


def test_what_can_be_told_is_told_and_what_cannot_is_guessed() -> None:
    for one in score(toy_task(separable=True), brightness):
        assert one.converged
        assert set(one.correct) == {"1"}
    for one in score(toy_task(separable=False), brightness):
        assert 0.35 < one.correct.count("1") / 200 < 0.65


def test_rotating_the_features_first_changes_no_prediction() -> None:
    """The probe's detour over principal axes is exact, also with more features than pictures."""
    draw = np.random.default_rng(1)
    for features, pictures in ((5, 80), (120, 40)):
        x, new = draw.normal(size=(pictures, features)), draw.normal(size=(30, features))
        y = draw.integers(0, 3, pictures)
        plain = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=5000, tol=1e-10))
        ours = make_pipeline(standardised_and_rotated(), logistic_regression(0.1).set_params(tol=1e-10))
        np.testing.assert_allclose(ours.fit(x, y).predict_proba(new), plain.fit(x, y).predict_proba(new), atol=1e-5)


def test_a_towers_features_do_not_depend_on_the_batch(results: Path) -> None:
    pixels = load_pictures("twemoji", results / "cache").pixels[:300]
    embed = tower_features(build_image_tower("catlip-bench-tiny", 48, 0), CPU)
    np.testing.assert_allclose(embed(pixels)[260:], embed(pixels[260:]), atol=1e-5)


@pytest.mark.parametrize("name", list(REFERENCE_FEATURES))
def test_reference_features_are_one_finite_row_a_picture(name: str, results: Path) -> None:
    features = REFERENCE_FEATURES[name](load_pictures("twemoji", results / "cache").pixels[:4])
    assert features.shape[0] == 4
    assert np.isfinite(features).all()


def saved(tmp_path: Path, experiment: Experiment, comparison: str) -> Path:
    path = tmp_path / f"{comparison}.tower.{experiment.name}.safetensors"
    save_tower(
        untrained_tower(experiment).state_dict(),
        path,
        Made(experiment=experiment, images=512, budgets=("equal images",)).to_facts(),
    )
    return path


def test_a_saved_tower_scores_as_it_did(tmp_path: Path, results: Path) -> None:
    experiment = EXPERIMENTS["catlip-tiny"]
    transfer, of = score_tower(saved(tmp_path, experiment, "c"), results, CPU)
    assert (transfer.subject, transfer.images, transfer.budgets, of) == (
        "catlip-tiny",
        512,
        ("equal images",),
        experiment,
    )
    untrained = score_untrained(experiment, results, CPU)
    assert [one.correct for one in transfer.scores] == [one.correct for one in untrained.scores]


def test_the_newest_towers_are_found_by_name(tmp_path: Path) -> None:
    for comparison in ("20260101T000000-train", "20260102T000000-train"):
        saved(tmp_path, EXPERIMENTS["clip-tiny"], comparison)
    newest = newest_towers(tmp_path, "clip-tiny")
    assert [path.name for path in newest] == ["20260102T000000-train.tower.clip-tiny.safetensors"]
    (tmp_path / "train-clip-tiny").mkdir()
    newer = saved(tmp_path / "train-clip-tiny", EXPERIMENTS["clip-tiny"], "20260103T000000-train")
    assert newest_towers(tmp_path, "clip-tiny") == [newer]
    with pytest.raises(ValueError, match="make one with: python -m bench train siglip-tiny"):
        newest_towers(tmp_path, "siglip-tiny")


def test_a_file_that_is_no_tower_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"not a tower")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        how_made(path)
    other = saved(tmp_path, EXPERIMENTS["clip-tiny"], "c")
    with pytest.raises(ValueError, match="does not hold this tower's weights"):
        load_weights(build_image_tower("vit_tiny_patch16_224", 48, 0), other)
