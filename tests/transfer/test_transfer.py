"""What is tuned is tuned on one part and reported on another, and the parts share nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bench.catalog import DEFAULT_PROTOCOLS, RANDOM_TOWER, scorings
from bench.config import Experiment
from bench.data.pack import load_pictures
from bench.experiments import EXPERIMENTS
from bench.towers.made import Made, how_made, newest_towers
from bench.train.build import untrained_tower
from bench.transfer.classification.probe import k_nn, linear_probe
from bench.transfer.feature_extractor import REFERENCE_FEATURES, Subject, tower_features
from bench.transfer.score import open_subject, scored
from bench.transfer.tasks.named_tasks import task_named
from bench.transfer.tasks.pictures import PackPictures
from bench.transfer.tasks.tasks import Part, Task, pack_tasks
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


def pictures_of(part: Part) -> set[bytes]:
    assert isinstance(part.pictures, PackPictures)
    return {picture.numpy().tobytes() for picture in part.pictures.rgba}


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
        parts = [pictures_of(part) for part in (task.train, task.validation, task.test)]
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
        {captions[picture] for part in side for picture in pictures_of(part)}
        for side in ((task.train, task.validation), (task.test,))
    ]
    assert not sides[0] & sides[1]


def test_few_shots_are_scored_on_the_same_test(tasks: list[Task]) -> None:
    assert tasks[3].test is tasks[4].test


def toy_task(separable: bool) -> Task:
    """Classes told by the brightness of their pictures, or by nothing."""
    draw = np.random.default_rng(0)

    def part(count: int) -> Part:
        labels = draw.integers(0, 2, count)
        shown = labels if separable else draw.integers(0, 2, count)
        pixels = torch.from_numpy((shown * 180 + draw.integers(0, 60, count)).astype(np.uint8))
        return Part(PackPictures(pixels.view(-1, 1, 1, 1).expand(-1, 4, 64, 64).contiguous()), labels)

    return Task("toy", ("dark", "bright"), part(60), part(30), part(200))


def brightness(pictures: PackPictures) -> np.ndarray:
    """One number, and a constant beside it: k-NN goes by angles."""
    level = pictures.rgba[:, :1, 0, 0].double().numpy()
    return np.hstack([level, np.full_like(level, 120)])


def test_what_can_be_told_is_told_and_what_cannot_is_guessed() -> None:
    subject = Subject(name="brightness", embed=brightness, tower=None, device=CPU, experiment=None)
    for one in (*linear_probe(subject, toy_task(separable=True)), *k_nn(subject, toy_task(separable=True))):
        assert one.converged
        assert set(one.correct) == {"1"}
    for one in (*linear_probe(subject, toy_task(separable=False)), *k_nn(subject, toy_task(separable=False))):
        assert 0.35 < one.correct.count("1") / 200 < 0.65


def test_a_towers_features_do_not_depend_on_the_batch(results: Path) -> None:
    pixels = load_pictures("twemoji", results / "cache").pixels
    embed = tower_features(build_image_tower("catlip-bench-tiny", 48, 0), CPU)
    np.testing.assert_allclose(embed(PackPictures(pixels[:300]))[260:], embed(PackPictures(pixels[260:300])), atol=1e-5)


@pytest.mark.parametrize("name", list(REFERENCE_FEATURES))
def test_reference_features_are_one_finite_row_a_picture(name: str, results: Path) -> None:
    features = REFERENCE_FEATURES[name](PackPictures(load_pictures("twemoji", results / "cache").pixels[:4]))
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
    trained = open_subject(str(saved(tmp_path, experiment, "c")), experiment, CPU)
    untrained = open_subject(RANDOM_TOWER, experiment, CPU)
    assert trained.experiment == experiment
    for _, protocol in scorings(RANDOM_TOWER, ["rooms"], DEFAULT_PROTOCOLS):
        was, now = (scored(subject, task_named("rooms", results, ""), protocol) for subject in (untrained, trained))
        assert (now.subject, now.images, now.budgets) == ("catlip-tiny", 512, ("equal images",))
        assert now.scores == was.scores


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
