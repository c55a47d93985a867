"""The authors' own modules, from a checkout, compute what ours compute from the same weights and batches.

The tests that run them are skipped where CATLIP_BENCH_CORENET or CATLIP_BENCH_SUPERCLASS names no checkout.
"""

import importlib
import os
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from bench.__main__ import main
from bench.data.targets import Labels
from bench.experiment.config import Experiment, change
from bench.experiment.experiments import EXPERIMENTS
from bench.features.reference import (
    CHECKOUTS,
    CORENET,
    OURS,
    SIDES,
    SUPERCLASS,
    WARMUP_STEPS,
    ReferenceName,
    corenet,
)
from bench.features.reference.checkouts import add_package, match_weights, stub_missing_packages
from bench.features.reference.records import ReferenceRun
from bench.features.reference.runs import released_labels, run_side
from bench.features.reference.verb import Reference, compare_early_losses, method_ratio_table, phase_table
from bench.interfaces.method import METHODS
from bench.labels.subwords import SubwordIds
from bench.records.record import Record
from models.corenet_vit import convert_corenet_state
from models.heads import DualEncoder
from models.image_tower import build_image_tower
from models.text_tower import build_text_tower
from tests.models.corenet_checkout import CLASSES, RECORDED, drawn
from tests.reports.conftest import HERE

CPU = torch.device("cpu")
TINY = "catlip-bench-tiny"
# The weights of CoreNet's text encoder as its checkpoints name them, those of a block without their number.
TEXT_BLOCK = [
    f"text_encoder.transformer.{{}}.pre_norm_{layer}.{kind}"
    for layer in ("mha.0", "mha.1.qkv_proj", "mha.1.out_proj", "ffn.0", "ffn.1", "ffn.4")
    for kind in ("weight", "bias")
]
TEXT = [
    "text_encoder.projection_layer",
    "text_encoder.embedding_layer.weight",
    "text_encoder.positional_embedding.pos_embed.pos_embed",
    "text_encoder.final_layer_norm.weight",
    "text_encoder.final_layer_norm.bias",
]


def recorded_vit(kind: str) -> dict[str, torch.Tensor]:
    """Weights under the names and in the shapes of CoreNet's ViT with a classifier, as its own modules list them."""
    found = np.load(RECORDED)
    shapes = [tuple(map(int, text.split())) for text in found[f"{kind} shapes"].tolist()]
    return drawn(dict(zip(found[f"{kind} names"].tolist(), shapes, strict=True)))


def scrambled(model: nn.Module) -> dict[str, torch.Tensor]:
    """Weights of a model of which no two are equal."""
    return {name: torch.randn(value.shape) for name, value in model.state_dict().items()}


def assert_equal(ours: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == others.keys()
    assert all(torch.equal(value, others[name]) for name, value in ours.items())


@pytest.mark.parametrize("kind", ["flash", "naive"])
def test_our_catlip_comes_back_from_corenets_names(kind: str) -> None:
    """The way back is the reader of CoreNet's released files."""
    theirs = recorded_vit(kind)
    model = METHODS["catlip"].build_model(build_image_tower("corenet-vit-tiny", 224, 0), EXPERIMENTS["catlip-tiny"])
    model.head = nn.Linear(model.tower.width, CLASSES)
    ours = scrambled(model)
    given = match_weights(ours, theirs, corenet.our_name)
    assert {name: value.shape for name, value in given.items()} == {name: one.shape for name, one in theirs.items()}
    assert torch.equal(given["classifier.weight"], ours["head.weight"])
    tower = {name: value for name, value in ours.items() if name.startswith("tower.trunk.")}
    assert_equal({f"tower.trunk.{name}": value for name, value in convert_corenet_state(given).items()}, tower)


def test_every_weight_of_our_clip_has_one_place_in_corenets() -> None:
    model = DualEncoder(
        build_image_tower("corenet-vit-tiny", 48, 0),
        build_text_tower(TINY, 24, 50, 0),
        initial_scale=10.0,
        initial_bias=None,
    )
    ours = scrambled(model)
    blocks = [name.format(k) for k in range(len(model.text.text.transformer.resblocks)) for name in TEXT_BLOCK]
    image = [f"image_encoder.{name}" for name in recorded_vit("naive") if not name.startswith("classifier.")]
    theirs = ["logit_scale", "image_encoder.classifier.proj", *image, *TEXT, *blocks]
    shapes = {name: ours[corenet.our_name(name)] for name in theirs}
    given = match_weights(ours, shapes, corenet.our_name)
    assert_equal({corenet.our_name(name): value for name, value in given.items()}, ours)


@pytest.mark.parametrize("change", ["missing", "more", "other size"])
def test_weights_without_a_counterpart_are_refused(change: str) -> None:
    ours = {"a": torch.zeros(2), "b": torch.zeros(3)}
    theirs = {"a": torch.zeros(1, 2), "b": torch.zeros(3)}
    assert match_weights(ours, theirs, str)["a"].shape == (1, 2)
    if change == "other size":
        theirs["b"] = torch.zeros(4)
    else:
        del (ours if change == "missing" else theirs)["b"]
    with pytest.raises(ValueError, match="without a counterpart of their size: b"):
        match_weights(ours, theirs, str)


def test_only_packages_that_are_not_installed_become_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    absent = "absent_package"
    stub_missing_packages([absent, "torch"])
    assert find_spec("torch").origin == torch.__spec__.origin  # type: ignore[union-attr]
    monkeypatch.setattr(sys, "modules", {**sys.modules})
    module = importlib.import_module(f"{absent}.part")
    assert isinstance(module.Anything, type)
    assert not hasattr(module, "__path_of_no_module__")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("another_absent_package")


def test_a_package_is_imported_under_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its relative imports lead to its own modules, whatever is installed under its name."""
    monkeypatch.setattr(sys, "modules", {**sys.modules})
    (tmp_path / "part.py").write_text("from .loss import value\n")
    (tmp_path / "loss.py").write_text("value = 'own'\n")
    add_package(tmp_path, "renamed_package")
    assert importlib.import_module("renamed_package.part").value == "own"


@pytest.mark.parametrize("reference", CHECKOUTS)
def test_without_a_checkout_nothing_runs_and_the_line_says_how_to_get_one(
    reference: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = ["--results", str(tmp_path / "results")]
    assert main(["reference", reference, *results]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"skipped: {reference} needs --checkout PATH")
    assert f"git clone {CHECKOUTS[reference].url}" in line
    assert main(["reference", reference, "--checkout", str(tmp_path), *results]) == 2
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("error: ")]
    assert f"{tmp_path} has no {CHECKOUTS[reference].file}" in line
    assert f"git clone {CHECKOUTS[reference].url}" in line
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("option", "value", "users"),
    [
        ("--name", "clip-tiny", ["open-clip"]),
        ("--checkout", "folder", ["corenet", "superclass", "open-clip"]),
        ("--scale", "tiny", ["corenet", "superclass"]),
    ],
)
def test_option_is_refused_by_references_that_do_not_use_it(
    option: str, value: str, users: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for reference in {*SIDES} - {*users}:
        assert main(["reference", reference, option, value, "--results", str(tmp_path / "results")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line == f"error: {option} is for {' or '.join(users)}, not for {reference}: leave it out"
    assert not (tmp_path / "results").exists()


@dataclass
class OneBatch:
    """A stream of one batch."""

    experiment: Experiment
    labels: Labels

    def target(self, _: int) -> Labels:
        return self.labels


def test_released_targets_hold_the_labels_of_ours() -> None:
    """SuperClass's code marks start, end and padding as labels, too: their weight is 0, for every caption has them."""
    labels = [[3, 1], [], [700]]
    stream: Any = OneBatch(EXPERIMENTS["catlip-tiny"], Labels.from_lists(labels))
    multi_hot = released_labels(stream, 0).values  # type: ignore[union-attr]
    assert [row.nonzero().flatten().tolist() for row in multi_hot] == [sorted(row) for row in labels]
    assert multi_hot.dtype == torch.int64

    stream.experiment = change(EXPERIMENTS["superclass-tiny"], subword_vocabulary="all")
    (ids,) = released_labels(stream, 0).groups  # type: ignore[union-attr]
    assert ids.shape == (3, stream.experiment.text.context_length)
    start_and_end = SubwordIds("all").start_and_end
    assert [{*row} for row in ids.tolist()] == [{*row, *start_and_end, 0} for row in labels]


def run(side: str, experiment: str, round_: int, seconds: float) -> Record:
    phases = {"forward": (seconds, seconds), "loss": (0.001, 0.003), "backward": (2.0,), "optimizer": (1.0,)}
    measured = ReferenceRun(
        side=side,
        round=round_,
        window_seconds=(seconds,),
        losses=(1.0,),
        tokens_per_caption=None,
        target_bytes_per_image=None,
        phase_seconds=phases,
    )
    named = change(EXPERIMENTS["catlip-tiny"], name=experiment)
    return Record(comparison="x", experiment=named, circumstances=HERE, measured=measured)


def test_tables_give_the_ratio_of_methods_on_each_side_and_the_phases() -> None:
    seconds = {(CORENET, "clip"): 2.4, (CORENET, "catlip"): 2.0, (OURS, "clip"): 1.5, (OURS, "catlip"): 1.0}
    records = [run(*key, round_, value * (1 + round_ / 100)) for key, value in seconds.items() for round_ in range(5)]
    table = method_ratio_table(records, SIDES["corenet"], "clip", "catlip")
    assert {row["side"]: row["ratio"] for row in table.rows} == pytest.approx({CORENET: 1.2, OURS: 1.5})
    rows = phase_table(records, ["torch", "surely_absent_package"])
    assert len(rows.rows) == 4
    assert {row["loss"] for row in rows.rows} == {2.0}
    assert rows.note.endswith(": surely_absent_package")


def test_a_run_recorded_before_phases_were_has_none() -> None:
    old = msgspec.to_builtins(run(OURS, "x", 0, 1.0).measured)
    del old["phase_seconds"]
    assert msgspec.convert(old, ReferenceRun).phase_seconds == {}


def checkout_of(reference: str) -> str:
    variable = f"CATLIP_BENCH_{reference.upper()}"
    return os.environ.get(variable) or pytest.skip(f"{variable} names no checkout of {CHECKOUTS[reference].url}")


def small_experiments(reference: ReferenceName) -> list[Experiment]:
    """The experiments of the command at its tiny scale, smaller still, and 20 steps of them."""
    fewer: dict[str, Any] = {"batch_size": 2, "windows": 9, "steps_per_window": 2}
    return [change(one, **fewer) for one in Reference(reference, scale="tiny")._experiments(on_gpu=False)]


@pytest.mark.parametrize("name", ["clip-tiny-corenet", "catlip-tiny-corenet", "superclass-tiny-superclass"])
@pytest.mark.filterwarnings("default")
def test_losses_equal_those_of_the_authors_code(name: str, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference: Any = name.rpartition("-")[2]
    checkout = checkout_of(reference)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.syspath_prepend(checkout)
    (experiment,) = [one for one in small_experiments(reference) if one.name == name]
    records = []
    for side in SIDES[reference]:
        measured = run_side(experiment, CPU, results, side, 0, checkout)
        assert len(measured.losses) == WARMUP_STEPS + 18
        assert [*measured.phase_seconds] == ["forward", "loss", "backward", "optimizer"]
        assert {len(seconds) for seconds in measured.phase_seconds.values()} == {2}
        records.append(Record(comparison="x", experiment=experiment, circumstances=HERE, measured=measured))
    (row,) = compare_early_losses(records)
    assert row["equal"] == "yes", row
    assert row["first"] != row["last"]
    assert row["reference"] in (CORENET, SUPERCLASS)
