"""`--set caption_lengths` changes what is measured and planned, not what is trained, and is printed beside figures."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.cli.train import TrainAndScoreTower
from bench.experiment.experiments import get_experiment
from bench.experiment.fields import PACK_DATA
from bench.records.record import read_records

WEB = "words of the pack at the lengths of web captions (median 15, 95th percentile 40 tokens)"
SHORT = shlex.split(
    "--set batch_size=16 --set warmup_steps=1 --set windows=1 --set steps_per_window=1 --rounds 1"
)


def tables(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.usefixtures("forked_runs")
def test_measure_prints_the_lengths_and_the_tokens_and_records_both(
    own_results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["clip-tiny", "catlip-tiny", "--set", "caption_lengths=web", *SHORT]
    out = own_results / "measure.json"
    assert main(["measure", *arguments, "--results", str(own_results), "--json", str(out)]) == 0
    assert f"Captions: {WEB}." in " ".join(capsys.readouterr().out.split())
    clip, catlip = tables(out)["Memory, utilisation, targets and sizes"]["rows"]
    assert 15 < clip["tokens per caption, with padding"] <= 24
    assert catlip["tokens per caption, with padding"] is None
    recorded = [record.experiment for record in read_records(own_results)]
    assert {one.input.caption_lengths for one in recorded if one is not None} == {"web"}


def test_training_reads_captions_as_they_are(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    experiment = get_experiment("clip-vit-b32")
    assert experiment.input.caption_lengths == "web"
    assert (
        TrainAndScoreTower(name="clip-vit-b32")
        ._with_training_images_and_vocabulary(experiment, tmp_path)
        .input.caption_lengths
        == PACK_DATA
    )
    assert main(["train", "clip-tiny", "--set", "caption_lengths=web", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "train reads captions as they are: leave out caption_lengths" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            ["--data", "own-shards", "--set", "caption_lengths=web"],
            "is for the pack alone: leave it out with data=own-shards",
        ),
        (
            ["--set", "caption_lengths=wbe"],
            "Invalid enum value 'wbe'",
        ),
    ],
)
def test_lengths_that_cannot_be_are_refused(
    options: list[str], text: str, own_results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["measure", "clip-tiny", *options, "--results", str(own_results)]) == 2
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1
