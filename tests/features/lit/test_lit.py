"""A text tower learns as beside the locked tower; scores are those of a loop; each stands beside its cost."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.__main__ import main
from bench.console.console import UserError
from bench.data.manifest import CACHE
from bench.data.samples import open_samples
from bench.data.stream import Batch
from bench.data.subset import subset_rows
from bench.data.transforms import WHITE, normalise
from bench.environment.circumstances import RunCircumstances
from bench.experiment.config import Experiment, change
from bench.features.lit import costs, stored_features
from bench.features.lit.costs import find_pretraining_seconds
from bench.features.lit.records import ZeroShot
from bench.features.lit.stored_features import TrainingImages, load_or_compute_features
from bench.features.lit.text_phase import build_run_on_features, train_on_features
from bench.features.lit.zero_shot import make_prompts, score_classification, score_retrieval
from bench.labels.subwords import SubwordEncoder
from bench.records.record import CooledDownTower, Record, Training, read_records, write_record
from bench.towers.head_file import TextEncoder, save_head, save_weights
from bench.towers.provenance import Provenance
from bench.towers.tower_from import load_tower
from bench.train.build import build_train_run, build_untrained_tower, open_batch_stream
from bench.train.state import split_weights_to_score
from bench.transfer.feature_extractor import make_tower_embedder
from bench.transfer.tasks.image_sources import iterate_eval_batches
from bench.transfer.tasks.tasks import SingleLabelTask
from tests.data.shards import write_shard
from tests.small import circumstances, few_images, small
from tests.transfer.toys import toy_part, toy_task
from tests.transfer.trees import encode, folders

CPU = torch.device("cpu")
COMPARISON = "20260101T000000-train"
STEPS = 3


def save_tower(folder: Path, experiment: Experiment, *, has_head: bool = False) -> Path:
    """Write an untrained tower as `train` does, with or without the rest of its model."""
    path = folder / f"{COMPARISON}.tower.{experiment.name}.seed{experiment.seed}.safetensors"
    provenance = Provenance(experiment=experiment, images=512, budgets=())
    run = build_train_run(open_batch_stream(experiment, CPU, folder))
    tower, head = split_weights_to_score(run)
    if has_head:
        save_head(head, path, provenance, ())
    save_weights(tower, path, provenance.to_metadata())
    return path


def training_images(experiment: Experiment, results: Path) -> TrainingImages:
    samples = open_samples(experiment, results / CACHE)
    return TrainingImages(
        samples, subset_rows(experiment.input.subset, experiment.seed, samples.keys)
    )


def text_encoder(results: Path) -> TextEncoder:
    """The text tower of an untrained pair."""
    experiment = few_images("clip")
    pair: Any = build_train_run(open_batch_stream(experiment, CPU, results)).model.eval()
    subwords = SubwordEncoder(experiment.targets.subword_vocabulary)
    return TextEncoder(pair, subwords, experiment.text.context_length)


@pytest.mark.parametrize("method", ["clip", "siglip"])
def test_loss_on_stored_features_is_the_loss_with_the_locked_tower_in_each_step(
    method: str, decoded: Path
) -> None:
    experiment = few_images(method)
    tower = build_untrained_tower(experiment).double().requires_grad_(requires_grad=False)
    images = training_images(experiment, decoded)
    features = make_tower_embedder(tower, CPU)(images)
    stream = open_batch_stream(experiment, CPU, decoded)
    on_features = build_run_on_features(stream, tower.width)
    on_features.model.double()
    with_tower = build_train_run(stream, tower)
    with_tower.model.double()
    shown = torch.cat(list(iterate_eval_batches(images, tower.image_size)))
    pixels = normalise(shown.double() / WHITE)
    for k in range(STEPS):
        rows = stream.order.batch_rows(k)
        target = stream.target(k)
        grids = torch.from_numpy(features[rows.numpy()])[:, :, None, None]
        loss = on_features.step(Batch(grids, target), 1e-3)
        expected = with_tower.step(Batch(pixels[rows], target), 1e-3)
        assert loss.dtype == torch.float64
        assert abs(loss - expected) < 1e-9


def test_equal_seeds_give_equal_losses_to_the_last_bit(decoded: Path) -> None:
    experiment = few_images("clip")
    tower = build_untrained_tower(experiment)
    features = make_tower_embedder(tower, CPU)(training_images(experiment, decoded))
    losses = [
        train_on_features(
            build_run_on_features(open_batch_stream(experiment, CPU, decoded), tower.width),
            features,
        )
        for _ in range(2)
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == experiment.training.images // experiment.training.batch_size


def test_features_are_computed_once_for_a_tower_and_its_data(
    own_results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = few_images("catlip")
    loaded = load_tower(str(save_tower(own_results, experiment)))
    where = circumstances(threads=2)
    first = load_or_compute_features(loaded, experiment, CPU, own_results, where)
    expected = make_tower_embedder(loaded.tower, CPU)(training_images(experiment, own_results))
    assert (first.values == expected).all()
    others = (
        (loaded, change(experiment, subset="random:64"), where),
        (load_tower(str(save_tower(own_results, change(experiment, seed=1)))), experiment, where),
    )
    for other in others:
        load_or_compute_features(other[0], other[1], CPU, own_results, other[2])
    assert len(list(own_results.glob("features-*.npy"))) == 1 + len(others)
    monkeypatch.setattr(stored_features, "make_tower_embedder", None)
    again = load_or_compute_features(loaded, experiment, CPU, own_results, where)
    assert (again.values == first.values).all()
    assert again.seconds == first.seconds > 0


def test_image_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    members = {"a.png": encode("red"), "a.txt": b"red", "b.png": b"no image", "b.txt": b"none"}
    write_shard(tmp_path / "data" / "0.tar", members)
    experiment = small("clip", data=str(tmp_path / "data"), subword_vocabulary="all")
    images = training_images(experiment, tmp_path)
    assert images.rgb(0).shape == (3, 30, 40)
    with pytest.raises(UserError, match=r"the image of .*b cannot be decoded.*subset=FILE\.csv"):
        images.rgb(1)


def test_classification_is_a_loop_over_cosines(decoded: Path) -> None:
    texts = text_encoder(decoded)
    embed = make_tower_embedder(texts.pair.tower, CPU)
    task = toy_task(2, 2, 12)
    prompts = make_prompts(task, ["a {}.", "{} or {}"])
    assert prompts[0] == ("a dark.", "dark or dark")
    score = score_classification(texts, embed, task, prompts)
    expected = ""
    for feature, label in zip(embed(task.test.images), task.test.labels, strict=True):
        image = torch.from_numpy(feature) @ texts.pair.projection.detach()
        cosines = [mean_cosine(texts, image, prompts_of_class) for prompts_of_class in prompts]
        expected += str(int(cosines.index(max(cosines)) == label))
    assert score.correct == expected
    assert score.num_candidates == 2


def mean_cosine(texts: TextEncoder, image: Tensor, prompts: tuple[str, ...]) -> float:
    """The cosine between an image and the mean direction of prompts, each embedded by itself."""
    directions = [texts.encode((prompt,))[0] for prompt in prompts]
    mean = torch.stack(directions).mean(0)
    return F.cosine_similarity(image, mean, dim=0).item()


def test_retrieval_is_a_loop_over_cosines_and_an_equal_caption_is_right(decoded: Path) -> None:
    texts = text_encoder(decoded)
    embed = make_tower_embedder(texts.pair.tower, CPU)
    images = toy_part(6).images
    captions = ("a cat", "a dog", "a cat", "red", "blue", "a red dog")
    of_images, of_captions = score_retrieval(texts, embed, images, captions)
    projected = [
        torch.from_numpy(feature) @ texts.pair.projection.detach() for feature in embed(images)
    ]
    written = [texts.encode((caption,))[0] for caption in captions]
    cosines = torch.tensor(
        [[F.cosine_similarity(image, text, dim=0) for text in written] for image in projected]
    )
    nearest_captions = [captions[row.argmax()] for row in cosines]
    nearest_images = [captions[column.argmax()] for column in cosines.T]
    for score, nearest in ((of_images, nearest_captions), (of_captions, nearest_images)):
        pairs = zip(nearest, captions, strict=True)
        assert score.correct == "".join(str(int(found == caption)) for found, caption in pairs)


def test_class_without_a_name_is_refused() -> None:
    task = SingleLabelTask("toy", ("dark", "__"), toy_part(1), toy_part(1), toy_part(1))
    with pytest.raises(UserError, match=r"toy has the class '__'"):
        make_prompts(task, [])


def write_training(folder: Path, experiment: Experiment, where: RunCircumstances) -> None:
    """Write the record of a training of 120 s with a half-way tower."""
    branches = tuple(
        CooledDownTower(images=images, budgets=(), tower=f"{COMPARISON}.tower.{images}.safetensors")
        for images in (500, 1000)
    )
    training = Training(
        trunk_losses=(1.0,), cooldown_losses=((1.0,), (1.0,)), branches=branches, seconds=120.0
    )
    record = Record(
        comparison=COMPARISON, experiment=experiment, circumstances=where, measured=training
    )
    write_record(record, folder / f"{COMPARISON}.training.x.json")


@pytest.mark.parametrize(("device", "devices"), [("cpu", 0.5), ("cuda", 2)])
def test_tower_costs_its_share_of_the_seconds_of_its_training(
    device: str, devices: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The half-way tower's cool-down of a fifth of its images is of no use to the other."""
    monkeypatch.setattr(costs, "count_available_cores", lambda: 8)
    where = circumstances(device=device, threads=2, processes=2)
    write_training(tmp_path, small("catlip", cooldown_share=0.2), where)
    towers = [tmp_path / f"{COMPARISON}.tower.{images}.safetensors" for images in (500, 1000)]
    seconds = [find_pretraining_seconds(tower, where) for tower in towers]
    in_all = 1000 + 0.2 * 500
    assert seconds == pytest.approx([120 * devices * part / in_all for part in (500, 1000)])
    elsewhere = circumstances(machine="another", device=device)
    assert find_pretraining_seconds(towers[0], elsewhere) is None
    assert find_pretraining_seconds(tmp_path / "other.tower.1.safetensors", where) is None


@pytest.mark.usefixtures("forked_runs")
def test_every_score_stands_beside_its_cost(
    own_results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folders(tmp_path / "colours", {"train": 4, "test": 4})
    towers = [
        save_tower(own_results, few_images("catlip")),
        save_tower(own_results, few_images("clip"), has_head=True),
    ]
    out = own_results / "lit"
    words = ["lit", *map(str, towers), "--images", "64", "--root", str(root)]
    words += ["--template", "a {} image", "--results", str(out), "--json", "-"]
    assert main(words) == 0
    tables = json.loads(capsys.readouterr().out)
    learned, own = tables["Zero-shot, with its cost"]["rows"]
    assert learned["text tower"] == "LiT, by the loss of clip"
    assert own["text tower"] == "trained with the tower"
    assert learned["images, both"] == 512 + 64
    assert own["images, both"] == 512
    for row in (learned, own):
        assert (
            row["device seconds, pre-training"] == row["device seconds, both"] == "not known here"
        )
        share, low, high = row["colours, of 3"]
        assert 0 <= low <= share <= high <= 1
    assert learned["device seconds, second phase"] > 0
    assert own["device seconds, second phase"] == 0
    stored = {path: path.stat().st_mtime_ns for path in out.glob("features-*")}
    assert main(words) == 0
    assert {path: path.stat().st_mtime_ns for path in out.glob("features-*")} == stored
    results = [record.measured for record in read_records(out)]
    scores = [result.scores for result in results if isinstance(result, ZeroShot)]
    assert len(scores) == 4
    assert scores[:2] == scores[2:]


@pytest.fixture
def tower(own_results: Path) -> Path:
    return save_tower(own_results, few_images("catlip"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing.safetensors"], "no tower file or experiment named"),
        (["text.safetensors"], "is not a safetensors file"),
        (["text.txt"], "is no tower file that"),
        (["TOWER", "--template", "a photo"], "has no {} for the name of a class"),
        (["TOWER", "--task", "unseen emoji retrieval"], "zero-shot needs one class per image"),
        (["TOWER", "--set", "data=pictures"], "no sample has a caption"),
        (["OTHER"], "does not hold this tower's weights"),
    ],
)
def test_wrong_input_is_refused_in_one_line(
    words: list[str],
    message: str,
    tower: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("text")
    (tmp_path / "text.safetensors").write_text("text")
    pictures = {f"{name}.png": encode("red") for name in ("a", "b")}
    write_shard(tmp_path / "pictures" / "0.tar", pictures)
    other = tmp_path / "other.safetensors"
    claimed = change(few_images("catlip"), image_size=60)
    weights = build_untrained_tower(few_images("catlip")).state_dict()
    provenance = Provenance(experiment=claimed, images=512, budgets=())
    save_weights(weights, other, provenance.to_metadata())
    paths = {"TOWER": str(tower), "OTHER": str(other)}
    assert main(["lit", *(paths.get(word, word) for word in words), "--results", "out"]) == 2
    text = capfd.readouterr().err
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    assert message in line
    assert "Traceback" not in text
    assert not list(Path("out").glob("*.json"))
