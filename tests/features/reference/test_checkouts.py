"""Modules of other people's code from a checkout compute what ours compute from the same weights and batches.

The test that runs them is skipped where CATLIP_BENCH_SUPERCLASS names no checkout.
"""

import importlib
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.__main__ import main
from bench.data.targets import LabelPairs
from bench.experiment.config import change
from bench.experiment.experiments import EXPERIMENTS
from bench.features.reference import (
    REFERENCE_REPOSITORIES,
    SUPERCLASS_SIDES,
    WARMUP_STEPS,
    ReferenceName,
    corenet,
)
from bench.features.reference.corenet import make_corenet_importable
from bench.features.reference.experiments import reference_experiment
from bench.features.reference.runs import pad_distinct_caption_tokens, train_side
from bench.features.reference.tables import loss_comparison_table
from bench.labels.subwords import SubwordEncoder
from bench.records.record import Record
from tests.reports.conftest import HERE

CPU = torch.device("cpu")


def test_only_packages_that_are_not_installed_become_empty(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "modules", {**sys.modules})
    monkeypatch.setattr(corenet, "UNUSED_PACKAGES", ("absent_package", "torch"))
    make_corenet_importable(tmp_path)
    assert find_spec("torch").origin == torch.__spec__.origin  # type: ignore[union-attr]
    module = importlib.import_module("absent_package.part")
    assert isinstance(module.Anything, type)
    assert not hasattr(module, "__path_of_no_module__")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("another_absent_package")


@pytest.mark.parametrize("reference", REFERENCE_REPOSITORIES)
def test_folder_that_is_no_checkout_is_refused_in_one_line(
    reference: ReferenceName, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = ["--results", str(tmp_path / "results")]
    assert main(["reference", reference, "--checkout", str(tmp_path), *results]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert (
        f"{tmp_path} has no {REFERENCE_REPOSITORIES[reference].identifying_file}: --checkout needs a `git clone"
        in line
    )
    assert REFERENCE_REPOSITORIES[reference].url in line
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ("superclass", "--corenet-training-data", "x"),
            "--corenet-training-data is for corenet, not for superclass: leave it out",
        ),
        (("corenet", "--set", "workers=2"), "corenet runs as released, got --set workers=2"),
    ],
)
def test_option_that_the_reference_does_not_use_is_refused(
    words: tuple[str, ...], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reference", *words, "--results", str(tmp_path / "results")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert text in line
    assert not (tmp_path / "results").exists()


def test_padded_labels_hold_the_labels_of_ours() -> None:
    """SuperClass's code marks start, end and padding as labels, too: their weight is 0, for every caption has them."""
    labels = [[3, 1], [], [700]]
    experiment = change(EXPERIMENTS["superclass-tiny"], subword_vocabulary="all")
    stream: Any = SimpleNamespace(
        experiment=experiment, target=lambda _: LabelPairs.from_label_lists(labels)
    )
    (ids,) = pad_distinct_caption_tokens(stream, 0).groups
    assert ids.shape == (3, experiment.text.context_length)
    start_and_end = SubwordEncoder("all").start_and_end
    assert [{*row} for row in ids.tolist()] == [{*row, *start_and_end, 0} for row in labels]


@pytest.mark.filterwarnings("default")
def test_losses_equal_the_authors_code(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = os.environ.get("CATLIP_BENCH_SUPERCLASS") or pytest.skip(
        "CATLIP_BENCH_SUPERCLASS names no checkout"
    )
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.syspath_prepend(checkout)
    experiment = reference_experiment("superclass", "tiny", (), on_gpu=False)
    experiment = change(experiment, batch_size=2, timed_windows=9, steps_per_window=2)
    records = []
    for side in SUPERCLASS_SIDES:
        measured = train_side(experiment, CPU, results, side, 0, checkout)
        assert len(measured.losses) == WARMUP_STEPS + 18
        records.append(
            Record(comparison="x", experiment=experiment, circumstances=HERE, measured=measured)
        )
    (row,) = loss_comparison_table(records).rows
    assert row["equal"] == "yes", row
