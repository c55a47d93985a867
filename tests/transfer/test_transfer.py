"""What is tuned is tuned on one part and reported on another, and the parts share nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from bench.data.pack import load_pack_images
from bench.experiment.config import Experiment, change
from bench.experiment.experiments import EXPERIMENTS
from bench.experiment.settings import renamed_with_settings
from bench.interfaces.catalog import (
    RANDOM_INIT,
    compatible_task_protocol_pairs,
    default_protocol_names,
)
from bench.towers.head_file import save_weights
from bench.towers.provenance import TowerProvenance, find_latest_towers
from bench.train.build import build_untrained_tower
from bench.transfer.families import TASKS as BUILT_IN
from bench.transfer.feature_extractor import FeatureExtractor, make_tower_embedder
from bench.transfer.named_tasks import load_task
from bench.transfer.score import open_extractor, score_task
from bench.transfer.tasks.image_sources import ArrayImageSource, composite_on_white
from bench.transfer.tasks.tasks import LabelledImages, SingleLabelTask
from models.image_tower import build_image_tower

CPU = torch.device("cpu")


def rgb(part: LabelledImages) -> torch.Tensor:
    assert isinstance(part.images, ArrayImageSource)
    return part.images.pixels


def bytes_of(image: torch.Tensor) -> bytes:
    return image.numpy().tobytes()


def images_of(part: LabelledImages) -> set[bytes]:
    return {*map(bytes_of, rgb(part))}


@pytest.fixture(scope="module")
def tasks(results: Path) -> list[SingleLabelTask]:
    return [task.load(results / "cache") for task in BUILT_IN if not task.layout]


def test_no_image_is_in_two_parts(tasks: list[SingleLabelTask]) -> None:
    for task in tasks:
        parts = [images_of(part) for part in (task.train, task.validation, task.test)]
        assert not parts[0] & parts[2]
        assert not parts[1] & parts[2]


def test_retrieval_is_the_share_of_nearest_images_that_show_the_query() -> None:
    """The validation queries are apart, and nothing is fitted."""
    draw = torch.Generator().manual_seed(3)
    gallery, noise = (torch.rand(count, 3, 8, 8, generator=draw).mul(255) for count in (12, 20))
    labels = np.arange(20) % 12
    gallery, queries = gallery.byte(), (0.15 * gallery[labels] + 0.85 * noise).byte()
    parts = [
        LabelledImages(ArrayImageSource(images), of)
        for images, of in (
            (gallery, np.arange(12)),
            (queries[:5], labels[:5]),
            (queries[5:], labels[5:]),
        )
    ]
    task, flat = (
        SingleLabelTask("a gallery", tuple("abcdefghijkl"), *parts),
        lambda images: images.flatten(1).double(),
    )
    embed = lambda source: flat(source.pixels).numpy()  # noqa: E731
    subject = FeatureExtractor(name="pixels", embed=embed, tower=None, device=CPU, experiment=None)
    (score,) = score_task(subject, task, "retrieval", Path()).scores
    cosines = normalize(flat(queries)) @ normalize(flat(gallery)).T
    right = (cosines.argmax(1).numpy() == labels).tolist()
    assert 5 < sum(right) < 20
    assert score.validation_accuracy == sum(right[:5]) / 5
    assert score.correct == "".join("01"[int(one)] for one in right[5:])
    assert (score.num_train, score.protocol) == (12, "retrieval")


def test_tower_features_are_independent_of_the_batch(results: Path) -> None:
    pixels = load_pack_images("twemoji", results / "cache").premultiplied_rgba
    embed = make_tower_embedder(build_image_tower("catlip-bench-tiny", 48, 0), CPU)
    np.testing.assert_allclose(
        embed(composite_on_white(pixels[:300]))[260:],
        embed(composite_on_white(pixels[260:300])),
        atol=1e-5,
    )


def test_features_that_are_not_finite_are_refused_with_their_number(
    tmp_path: Path, results: Path
) -> None:
    """Weights of 3e38 are finite, and no feature of theirs is."""
    experiment = EXPERIMENTS["catlip-tiny"]
    state = {
        name: torch.full_like(value, 3e38)
        for name, value in build_untrained_tower(experiment).state_dict().items()
    }
    facts = TowerProvenance(experiment=experiment, images=512, budgets=()).to_metadata()
    save_weights(state, tmp_path / "x.safetensors", facts)
    subject = open_extractor(str(tmp_path / "x.safetensors"), experiment, CPU)
    with pytest.raises(ValueError, match=r"features of [0-9]+ images are not finite"):
        score_task(subject, load_task("unseen subgroup", results, ""), "linear-probe", results)


def saved(tmp_path: Path, experiment: Experiment, comparison: str) -> Path:
    path = tmp_path / f"{comparison}.tower.{experiment.name}.safetensors"
    save_weights(
        build_untrained_tower(experiment).state_dict(),
        path,
        TowerProvenance(experiment=experiment, images=512, budgets=("equal images",)).to_metadata(),
    )
    return path


def test_saved_tower_scores_the_same(tmp_path: Path, results: Path) -> None:
    experiment = EXPERIMENTS["catlip-tiny"]
    trained = open_extractor(str(saved(tmp_path, experiment, "c")), experiment, CPU)
    untrained = open_extractor(RANDOM_INIT, experiment, CPU)
    assert trained.experiment == experiment
    for _, protocol in compatible_task_protocol_pairs(
        RANDOM_INIT, ["unseen subgroup"], default_protocol_names()
    ):
        was, now = (
            score_task(subject, load_task("unseen subgroup", results, ""), protocol, results)
            for subject in (untrained, trained)
        )
        assert (now.subject, now.images, now.budgets) == ("catlip-tiny", 512, ("equal images",))
        assert now.scores == was.scores


def test_towers_are_found_without_the_settings_they_were_trained_with(tmp_path: Path) -> None:
    """Settings hold paths of the user's data, which no one types again; a choice between settings is the user's."""
    own = renamed_with_settings(EXPERIMENTS["clip-tiny"], ["data=shards"])
    tower = saved(tmp_path, own, "20260101T000000-train")
    assert (
        find_latest_towers(tmp_path, "clip-tiny")
        == find_latest_towers(tmp_path, own.name)
        == [tower]
    )
    saved(tmp_path, renamed_with_settings(own, ["batch_size=32"]), "20260102T000000-train")
    with pytest.raises(
        ValueError, match=r"holds clip-tiny\[data=shards\], clip-.*: name one of several"
    ):
        find_latest_towers(tmp_path, "clip-tiny")
    assert find_latest_towers(tmp_path, own.name) == [tower]
    plain = saved(tmp_path, EXPERIMENTS["clip-tiny"], "20260103T000000-train")
    assert find_latest_towers(tmp_path, "clip-tiny") == [plain]


def test_every_seed_has_its_newest_tower_of_equal_trainings(tmp_path: Path) -> None:
    tiny = EXPERIMENTS["clip-tiny"]
    experiments = [change(tiny, images_seen=256, warmup_images=0), tiny, change(tiny, seed=1), tiny]
    for day, one in enumerate(experiments, 1):
        saved(
            tmp_path,
            change(one, synset_vocabulary=f"runs/{day}.json"),
            f"2026010{day}T000000-train",
        )
    found = [path.name[:8] for path in find_latest_towers(tmp_path, "clip-tiny")]
    assert found == ["20260103", "20260104"]
    for folder in ("a", "b"):  # trainings that began in one second
        (tmp_path / folder).mkdir()
        saved(tmp_path / folder, tiny, "20260105T000000-train")
    assert [path.parent.name for path in find_latest_towers(tmp_path, "clip-tiny")][1:] == ["b"]
