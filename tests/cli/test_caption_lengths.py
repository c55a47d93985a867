"""`--set pack_caption_lengths` changes what is measured and planned, not trained, and is printed beside figures."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.cli.train import TrainAndScoreTower
from bench.experiment.experiments import get_experiment
from bench.experiment.fields import OWN_LENGTHS

WEB = "words of the pack at the lengths of web captions (median 15, 95th percentile 40 tokens)"


def tables(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_training_reads_captions_as_they_are(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    experiment = get_experiment("clip-vit-b32")
    assert experiment.input.pack_caption_lengths == "web"
    assert (
        TrainAndScoreTower(name="clip-vit-b32")
        ._with_training_images_and_vocabulary(experiment, tmp_path)
        .input.pack_caption_lengths
        == OWN_LENGTHS
    )
    assert (
        main(["train", "clip-tiny", "--set", "pack_caption_lengths=web", "--out", str(tmp_path)])
        == 2
    )
    error = capsys.readouterr().err
    assert "train reads captions as they are: leave out pack_caption_lengths" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            ["--data", "own-shards", "--set", "pack_caption_lengths=web"],
            "is for the pack alone: leave it out with data=own-shards",
        ),
        (
            ["--set", "pack_caption_lengths=wbe"],
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
