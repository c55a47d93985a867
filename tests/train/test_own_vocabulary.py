"""Data other than the pack are trained with a vocabulary of their own captions, and a head has a row per label."""

import shlex
from pathlib import Path

import pytest
import torch
from torch import nn

from bench.__main__ import main
from bench.cli.options import LabelOptions, find_experiment_with_settings
from bench.cli.own_vocabulary import count_data_vocabulary
from bench.data.samples import training_files_digest
from bench.experiment.config import Experiment
from bench.experiment.fields import SampleSettings
from bench.labels.vocabulary import SHIPPED_FOLDER, read_vocabulary
from bench.measure.costs import build_tower_and_model_on_meta
from bench.orchestration.preflight import require_runnable_and_prepare_data
from bench.records.record import Training, read_records
from bench.towers.tower_from import load_tower
from tests.data.shards import encode_image, make_image, write_shard
from tests.train.test_checkpoints import written

CAPTIONS = [*["a dog near a bridge"] * 300, *["the dog on the beach"] * 250, *["very quickly"] * 50]
CPU = torch.device("cpu")
TINY = shlex.split("--images-seen 64 --set batch_size=16 --no-score")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 600 samples: 550 dogs, 300 bridges, 250 beaches, and 50 captions without a noun."""
    folder, image = tmp_path_factory.mktemp("shards"), encode_image(make_image(0))
    members = {
        f"{n:03}.{s}": c
        for n, text in enumerate(CAPTIONS)
        for s, c in (("jpg", image), ("txt", text.encode()))
    }
    write_shard(folder / "0.tar", members)
    return folder


def head_rows(experiment: Experiment) -> int:
    head = build_tower_and_model_on_meta(experiment)[1].head
    return next(
        module.out_features for module in [*head.modules()][::-1] if isinstance(module, nn.Linear)
    )


def test_own_vocabulary_has_the_labels_of_the_captions(shards: Path) -> None:
    counted = count_data_vocabulary(SampleSettings(data=str(shards)), "synset_vocabulary")
    names = [label.name for label in counted.labels]
    assert names == ["dog.n.01", "bridge.n.01", "beach.n.01"]
    subwords = count_data_vocabulary(SampleSettings(data=str(shards)), "subword_vocabulary")
    words = {label.name.removesuffix("</w>") for label in subwords.labels}
    assert words == {"a", "dog", "the", "near", "bridge", "on", "beach", "very", "quickly"}
    assert subwords.captions == 600


def test_training_with_the_vocabulary_of_other_captions_is_refused(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", str(shards), "--out", str(tmp_path / "out")]
    name = "catlip-vit-b16-datacomp"
    assert main(["train", name, *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{name}[data=" in line
    assert "datacomp-synsets is not shipped: add --vocabulary-from-captions" in line
    shipped_subwords = str(SHIPPED_FOLDER / "shipped-subwords.json")
    for vocabulary in ([], ["--label-vocabulary", shipped_subwords]):
        assert main(["train", "superclass-tiny", *options, *vocabulary]) == 2
        assert (
            "add --vocabulary-from-captions, or name one of these captions"
            in capsys.readouterr().err
        )


@pytest.mark.parametrize("method", ["clip", "superclass"])
def test_training_on_other_data_may_read_all_subwords_of_the_tokenizer(
    method: str, shards: Path, tmp_path: Path
) -> None:
    accepted = find_experiment_with_settings(
        f"{method}-tiny", ["subword_vocabulary=all", f"data={shards}"]
    )
    require_runnable_and_prepare_data(tmp_path / "results", [accepted], will_train=True)


@pytest.mark.usefixtures("forked_runs", "decoded")
def test_speed_on_other_data_is_measured_with_a_vocabulary_of_their_captions_or_a_remark(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = (
        "--set batch_size=16 --set untimed_steps=1 --set timed_windows=1 --set steps_per_window=1"
    )
    words = f"measure catlip-tiny --data {shards} --rounds 1 --results {tmp_path} {short}"
    command = shlex.split(words)
    remark = "the vocabulary shipped-synsets was not counted over the captions of "
    assert main(command) == 0
    assert remark in capsys.readouterr().err
    assert main([*command, "--vocabulary-from-captions"]) == 0
    assert remark not in capsys.readouterr().err
    used = {
        record.experiment.targets.synset_vocabulary
        for record in read_records(tmp_path)
        if record.experiment
    }
    (counted,) = used - {"shipped-synsets"}
    names = [label.name for label in read_vocabulary(counted).labels[:3]]
    assert names == ["dog.n.01", "bridge.n.01", "beach.n.01"]
    # No method reads subwords.
    assert [str(path) for path in (tmp_path / "vocabularies").iterdir()] == [counted]


@pytest.mark.parametrize("name", ["catlip-tiny", "catlip-vit-b16-datacomp"])
def test_no_head_has_rows_without_a_label_unless_the_user_asks_for_them(name: str) -> None:
    settings = LabelOptions(label_vocabulary="shipped-synsets").format_data_settings()
    given = find_experiment_with_settings(name, settings)
    assert head_rows(given) == len(read_vocabulary("shipped-synsets").labels) == 723
    assert (
        head_rows(find_experiment_with_settings(name, ["padded_head_rows=1000", *settings])) == 1000
    )


@pytest.mark.usefixtures("forked_runs", "decoded")
def test_counted_labels_are_the_rows_of_the_head_and_a_resumed_training_refuses_others(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    data_options = ["--data", str(shards), "--out", str(out), "--vocabulary-from-captions"]
    options = ["train", "catlip-tiny", *TINY, *data_options]
    assert main(options) == 0
    (record,) = (record for record in read_records(out) if isinstance(record.measured, Training))
    vocabulary = read_vocabulary(str(out / "vocabulary.json"))
    assert [label.name for label in vocabulary.labels] == ["dog.n.01", "bridge.n.01", "beach.n.01"]
    (tower,) = out.glob("*.tower.*.safetensors")
    classifier = load_tower(str(tower)).label_classifier
    assert classifier is not None
    assert classifier.keys == vocabulary.keys
    assert len(classifier.weight) == 3

    name, experiment, counted = record.comparison, record.experiment, out / "vocabulary.json"
    assert experiment is not None
    assert experiment.targets.synset_vocabulary == str(counted)
    changes = {
        "comparison": name,
        "experiment": experiment,
        "data_digest": training_files_digest(experiment.input, experiment.targets),
    }
    written(out / "checkpoints", 2, **changes)
    before = counted.stat().st_mtime_ns
    assert main(options) == 2
    assert "add --resume" in capsys.readouterr().err
    assert main([*options, "--resume"]) == 0
    assert counted.stat().st_mtime_ns == before
    counted.write_text(counted.read_text().replace("dog.n.01", "cat.n.01"))
    assert main([*options, "--resume"]) == 2
    assert (
        "its subset, vocabulary or teacher is not what it was: files were replaced"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--set", "subset=random:601"], "601"),
        (["--set", "input_embedding_grid_channels=8"], "no sample can be used (no image: 600)"),
    ],
)
def test_vocabulary_is_not_counted_for_a_training_that_other_options_refuse(
    more: list[str], text: str, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", str(shards), "--out", str(tmp_path / "out"), "--vocabulary-from-captions"]
    assert main(["train", "catlip-tiny", *options, *more]) == 2
    assert text in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out" / "vocabulary.json").exists()
