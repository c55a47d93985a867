"""A text tower learns as beside the locked tower; scores are those of a loop; each stands beside its cost."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from bench.__main__ import main
from bench.console.console import StopRequest, UserError, handle_stop_signals
from bench.data.stream import Batch, BatchStream
from bench.data.transforms import WHITE, normalise
from bench.environment.circumstances import RunCircumstances
from bench.experiment.config import Experiment, change
from bench.features.lit import stored_features, text_phase
from bench.features.lit.costs import find_pretraining_seconds
from bench.features.lit.records import SecondPhase, ZeroShot, ZeroShotScore
from bench.features.lit.stored_features import (
    FeatureCost,
    StoredFeatures,
    load_or_compute_features,
    open_training_images,
)
from bench.features.lit.tables import make_zero_shot_table
from bench.features.lit.text_phase import FeatureStream, TextPhase, build_run_on_features
from bench.features.lit.zero_shot import make_prompts, score_classification, score_retrieval_at_1
from bench.labels.subwords import SubwordEncoder
from bench.profilers.clock import Elapsed
from bench.records.record import CooledDownTower, Record, Training, read_records, write_record
from bench.statistics.accuracies import estimate_mean_over_seeds
from bench.towers import tower_from
from bench.towers.head_file import TextEncoder, save_head_beside_tower, save_weights
from bench.towers.provenance import TowerProvenance
from bench.towers.tower_from import load_tower
from bench.train.build import build_train_run, build_untrained_tower, open_batch_stream
from bench.train.state import split_tower_and_head_weights
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
NO_COST = FeatureCost(seconds=0.0, replacements={}, unusable={})


def save_tower(folder: Path, experiment: Experiment, *, has_head: bool = False) -> Path:
    """Write an untrained tower as `train` does, with or without the rest of its model."""
    path = folder / f"{COMPARISON}.tower.{experiment.name}.seed{experiment.seed}.safetensors"
    provenance = TowerProvenance(experiment=experiment, images=512, budgets=())
    run = build_train_run(open_batch_stream(experiment, CPU, folder))
    tower, head = split_tower_and_head_weights(run)
    if has_head:
        save_head_beside_tower(head, path, provenance, ())
    save_weights(tower, path, provenance.to_metadata())
    return path


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
    stream = open_batch_stream(experiment, CPU, decoded)
    images = open_training_images(stream)
    features = StoredFeatures(make_tower_embedder(tower, CPU)(images), NO_COST)
    on_features = build_run_on_features(stream, features)
    on_features.model.double()
    with_tower = build_train_run(stream, tower)
    with_tower.model.double()
    shown = torch.cat(list(iterate_eval_batches(images, tower.image_size)))
    pixels = normalise(shown.double() / WHITE)
    for k in range(STEPS):
        rows = stream.order.batch_rows(k)
        loss = on_features.step(on_features.stream.batch(k), 1e-3)
        expected = with_tower.step(Batch(pixels[rows], stream.target(k)), 1e-3)
        assert loss.dtype == torch.float64
        assert abs(loss - expected) < 1e-9


def make_phase(folder: Path, experiment: Experiment, **changes: Any) -> TextPhase:
    """The phase of an untrained tower, with its features at hand."""
    stream = open_batch_stream(experiment, CPU, folder)
    images = open_training_images(stream)
    values = make_tower_embedder(build_untrained_tower(experiment), CPU)(images)
    fields = {
        "experiment": experiment,
        "device": CPU,
        "results": folder,
        "comparison": COMPARISON,
        "folder": folder / "text",
        "features": StoredFeatures(values, NO_COST),
        "num_devices": 0.5,
        "seconds": None,
    }
    return TextPhase(**fields | changes)


def test_phase_that_is_stopped_again_and_again_equals_an_unstopped_one(
    own_results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps 2 and 4 are the last of a process; a phase that has ended is not run again."""
    phase = make_phase(own_results, few_images("clip"))
    whole = replace(phase, folder=own_results / "whole").load_or_train(StopRequest())
    taken = {"batches": 0}
    plain = BatchStream.batch

    def batch(stream: BatchStream[Any], k: int) -> Batch[Any]:
        taken["batches"] += 1
        if taken["batches"] in (2, 4):
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(stream, k)

    monkeypatch.setattr(BatchStream, "batch", batch)
    for _ in range(2):
        with handle_stop_signals() as stop, pytest.raises(SystemExit):
            phase.load_or_train(stop)
    resumed = phase.load_or_train(StopRequest())
    assert taken["batches"] == 6
    assert (resumed.images, resumed.last_loss) == (whole.images, whole.last_loss)
    head, whole_head = (load_file(own_results / name / "text.head") for name in ("text", "whole"))
    assert head.keys() == whole_head.keys()
    assert all(value.equal(whole_head[name]) for name, value in head.items())
    assert phase.load_or_train(StopRequest()) == resumed
    assert taken["batches"] == 6


def test_phase_takes_as_many_steps_as_its_seconds_allow(
    own_results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """30 steps take 3 s and the trial takes 4, of 19 device seconds at half a device: 34 s are left for 340 steps."""
    phase = make_phase(own_results, few_images("clip"), seconds=19.0)
    readings = iter((3.0, 4.0) * 2)

    @contextmanager
    def clock(_: torch.device) -> Iterator[Elapsed]:
        elapsed = Elapsed()
        yield elapsed
        elapsed.seconds = next(readings)

    monkeypatch.setattr(text_phase, "time_synchronized_block", clock)
    monkeypatch.setattr(text_phase, "take_steps_at_full_learning_rate", lambda *_: None)
    assert phase._count_images(19.0) == 340 * phase.experiment.training.batch_size
    with pytest.raises(
        UserError, match=r"--device-seconds-of-both-phases leaves 2\.0 device seconds"
    ):
        phase._count_images(2.0)


def test_features_are_computed_once_for_a_tower_and_its_data(
    own_results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = few_images("catlip")
    stream = open_batch_stream(experiment, CPU, own_results)
    loaded = load_tower(str(save_tower(own_results, experiment)))
    where = circumstances(threads=2)
    first = load_or_compute_features(loaded, stream, own_results, where)
    expected = make_tower_embedder(loaded.tower, CPU)(open_training_images(stream))
    assert (first.values == expected).all()
    subset = open_batch_stream(change(experiment, subset="random:64"), CPU, own_results)
    load_or_compute_features(loaded, subset, own_results, where)
    other = load_tower(str(save_tower(own_results, change(experiment, seed=1))))
    load_or_compute_features(other, stream, own_results, where)
    assert len(list(own_results.glob("features-*.npy"))) == 3
    monkeypatch.setattr(stored_features, "make_tower_embedder", None)
    again = load_or_compute_features(loaded, stream, own_results, where)
    assert (again.values == first.values).all()
    assert again.cost == first.cost
    assert again.cost.seconds > 0


def test_images_that_cannot_be_decoded_are_replaced_as_in_a_training(tmp_path: Path) -> None:
    """Features are of the sample whose caption stands beside them, which is the one that a training shows."""
    members: dict[str, bytes] = {}
    for number in range(20):
        members[f"{number}.png"] = encode("red") if number % 10 else b"no image"
        members[f"{number}.txt"] = f"{number} cats".encode()
    write_shard(tmp_path / "data" / "0.tar", members)
    experiment = small("clip", data=str(tmp_path / "data"), subword_vocabulary="all")
    loaded = load_tower(str(save_tower(tmp_path, experiment)))
    stream = open_batch_stream(experiment, CPU, tmp_path)
    features = load_or_compute_features(loaded, stream, tmp_path, circumstances())
    assert features.cost.replacements.keys() == {0, 10}
    assert sum(features.cost.unusable.values()) >= 2
    expected = [stream.load_batch_parts(k).target for k in range(STEPS)]
    on_features = FeatureStream(stream, features)
    for k in range(STEPS):
        target = on_features.batch(k).target
        assert target.inverse_permutation.equal(expected[k].inverse_permutation)
        pairs = zip(target.groups, expected[k].groups, strict=True)
        assert all(ids.equal(other) for ids, other in pairs)


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
    of_images, of_captions = score_retrieval_at_1(texts, embed, images, captions)
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
    monkeypatch.setattr("bench.environment.circumstances.count_available_cores", lambda: 8)
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
    words = ["lit", *map(str, towers), "--images-seen", "64", "--score-on", str(root)]
    words += ["--template", "a {} image", "--results", str(out), "--json", "-"]
    assert main(words) == 0
    tables = json.loads(capsys.readouterr().out)
    own, learned = tables["Zero-shot, with its cost"]["rows"]
    assert learned["text tower"] == "LiT, loss of clip"
    assert own["text tower"] == "trained with it"
    assert learned["images, both phases"] == 512 + 64
    assert own["images, both phases"] == 512
    for row in (learned, own):
        assert row["device seconds, both phases"] == "not known"
        share, low, high = row["colours, of 3"]
        assert 0 <= low <= share <= high <= 1
    assert learned["device seconds, second phase"] > 0
    assert own["device seconds, second phase"] == 0
    stored = {path: path.stat().st_mtime_ns for path in out.glob("*-*/*")}
    assert any(path.name == "text.head" for path in stored)
    assert main(words) == 0
    assert {path: path.stat().st_mtime_ns for path in out.glob("*-*/*")} == stored
    results = [record.measured for record in read_records(out)]
    phases = [
        (result.scores, result.second_phase) for result in results if isinstance(result, ZeroShot)
    ]
    assert len(phases) == 4
    assert phases[:2] == phases[2:]
    assert main(["report", "build", str(out)]) == 0
    page = (out / "index.html").read_text()
    assert "Zero-shot and what it cost" in page
    assert "Only timed runs, trainings" not in page


def make_zero_shot_record(
    seed: int, seconds: float | None, phase_seconds: float, bits: str, **changes: Any
) -> Record:
    """A result of CLIP, or of a tower with a second phase that took some seconds."""
    phase = SecondPhase(
        loss="clip",
        images=64,
        feature_seconds=phase_seconds,
        text_seconds=0.0,
        last_loss=1.0,
    )
    measured = ZeroShot(
        tower="t",
        pretraining_images=512,
        pretraining_seconds=seconds,
        second_phase=phase if phase_seconds else None,
        total_seconds=None,
        price=2.0,
        scores=(ZeroShotScore(task="toy", correct=bits, num_candidates=2),),
    )
    experiment = small("clip", seed=seed, **changes)
    return Record(
        comparison="c", experiment=experiment, circumstances=circumstances(), measured=measured
    )


def test_row_has_means_over_seeds_and_its_cost() -> None:
    bits = ("1100", "1110", "1000")
    records = [make_zero_shot_record(seed, 3600.0, 0.0, bits[seed]) for seed in range(3)]
    for name, seconds in {"near": 3570.0, "foreign": None}.items():
        records.append(make_zero_shot_record(0, seconds, 30.0, "1000", name=name))
    again = make_zero_shot_record(0, 3570.0, 30.0, "1111", name="near")
    later = circumstances(started_at="2026-01-02")
    records.insert(0, msgspec.structs.replace(again, circumstances=later))
    clip, near, foreign = make_zero_shot_table(records).rows
    assert clip["seeds"] == 3
    expected = estimate_mean_over_seeds([np.array([*map(float, text)]) for text in bits])
    assert clip["toy, of 2"] == (expected.value, expected.low, expected.high)
    assert near["toy, of 2"][0] == 1  # the newest
    assert near["device seconds, both phases"] == 3600
    assert near["price, both phases"] == 2
    assert foreign["device seconds, image tower"] == "not known"
    assert foreign["device seconds, both phases"] == "not known"


@pytest.fixture
def tower(own_results: Path) -> Path:
    return save_tower(own_results, few_images("catlip"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing.safetensors"], "no tower file or experiment named"),
        (["text.txt"], "is no tower file that"),
        (["TOWER", "--template", "a photo"], "has no {} for the name of a class"),
        (["TOWER", "--task", "unseen emoji retrieval"], "zero-shot needs one class per image"),
        (["TOWER", "--set", "data=pictures"], "no sample has a caption"),
        (["reference-tower"], "pip install catlip-bench[reference-tower]"),
        (
            ["TOWER", "--images-seen", "64", "--device-seconds-of-both-phases", "9"],
            "leave out --images-seen",
        ),
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
    monkeypatch.setattr(tower_from, "REFERENCE_TOWER_PACKAGE", "no_package")
    (tmp_path / "text.txt").write_text("text")
    pictures = {f"{name}.png": encode("red") for name in ("a", "b")}
    write_shard(tmp_path / "pictures" / "0.tar", pictures)
    words = [str(tower) if word == "TOWER" else word for word in words]
    assert main(["lit", *words, "--results", "out"]) == 2
    text = capfd.readouterr().err
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    assert message in line
    assert "Traceback" not in text
    assert not list(Path("out").glob("*.json"))
