"""The authors' training loop runs with their own file, and every changed key of the file is recorded.

The tests that run it are skipped where CATLIP_BENCH_CORENET names no checkout of apple/corenet.
"""

import os
import random
import sys
from argparse import Namespace
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from bench.data.image_sizes import BatchShape
from bench.data.stream import BatchStream
from bench.environment.circumstances import describe_current_commit
from bench.experiment.config import Experiment, change, differing_values_by_field
from bench.experiment.experiments import EXPERIMENTS
from bench.experiment.fields import OWN_LENGTHS, PACK_DATA
from bench.features.reference import RELEASED_FILES
from bench.features.reference.corenet import make_corenet_importable
from bench.features.reference.corenet_released import (
    TINY,
    build_corenet_pipeline,
    describe_changed_options,
    flatten_options,
    run_corenet_as_released,
)
from bench.features.reference.experiments import released_experiments_by_file
from bench.features.reference.released_batches import (
    CorenetBatch,
    CorenetTimedLoader,
    draw_step_sizes,
    make_batch_function,
    open_corenet_stream,
)
from bench.features.reference.tables import released_run_tables
from bench.features.reference.timing import WindowTimer
from bench.records.record import Record, ReleasedRun, read_record, write_record
from tests.cli.test_released_recipes import flattened
from tests.photographs import write_shards
from tests.reports.conftest import HERE

CPU = torch.device("cpu")
FILES = [*chain.from_iterable(files.values() for files in RELEASED_FILES.values())]
SPEED = {"timed_windows": 9, "steps_per_window": 2, "untimed_steps": 2}  # 20 steps
FEW = {"timed_windows": 2, "steps_per_window": 2, "untimed_steps": 1}  # 5 steps


@pytest.fixture
def checkout(monkeypatch: pytest.MonkeyPatch) -> Path:
    variable = "CATLIP_BENCH_CORENET"
    folder = os.environ.get(variable) or pytest.skip(
        f"{variable} names no checkout of apple/corenet"
    )
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.syspath_prepend(folder)
    make_corenet_importable(Path(folder))
    return Path(folder)


@pytest.fixture
def _range_augment_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """RangeAugment keeps the order of its parts: beartype's checks draw from the generator that would shuffle them."""
    monkeypatch.setattr(random, "shuffle", lambda _: None)


@pytest.fixture
def shards(tmp_path: Path) -> str:
    return str(write_shards(tmp_path / "shards"))


def released_recipe(method: str, data: str = PACK_DATA, **fields: Any) -> Experiment:
    lengths = {} if data == PACK_DATA else {"data": data, "pack_caption_lengths": OWN_LENGTHS}
    return change(EXPERIMENTS[f"{method}-vit-b16-datacomp"], **lengths, **fields)


def open_batches(
    options: Namespace, experiment: Experiment, results: Path, round_: int, steps: int
) -> tuple[tuple[BatchShape, ...], BatchStream[Any], Callable[[int], CorenetBatch]]:
    sizes = draw_step_sizes(options, round_, steps)
    stream = open_corenet_stream(options, experiment, CPU, results, sizes)
    return sizes, stream, make_batch_function(stream, sizes, is_pinned=False)


def run(
    file: str, round_: int, seconds: tuple[float, ...] = (1.0, 3.0), **fields: Any
) -> ReleasedRun:
    given: dict[str, Any] = {
        "repository": "apple/corenet",
        "commit": "0123" * 10,
        "file": file,
        "file_sha256": "45",
        "changed": {"model.size": "used 1, released 2: a reason"},
        "gpus": 1,
        "round": round_,
        "window_images": (2, 6),
        "window_seconds": seconds,
        "losses": (2.0, 1.0),
    }
    return ReleasedRun(**given | fields)


def record(name: str, measured: ReleasedRun) -> Record:
    return Record(
        comparison="x", experiment=EXPERIMENTS[name], circumstances=HERE, measured=measured
    )


def losses_by_hand(
    checkout: Path, file: str, experiment: Experiment, folder: Path, results: Path, round_: int
) -> list[float]:
    """Losses of a loop of our own over CoreNet's parts."""
    pipeline, *_ = build_corenet_pipeline(checkout, file, folder, CPU, is_tiny=True)
    options, _ = pipeline.opts, pipeline.launcher  # which draws the seeds
    timing = experiment.timing
    num_steps = timing.untimed_steps + timing.timed_windows * timing.steps_per_window
    _, _, load = open_batches(options, experiment, results, round_, num_steps)
    model, optimizer = pipeline.model.train(), pipeline.optimizer
    criterion = pipeline.criteria.train()
    losses = []
    for k in range(num_steps):
        batch = load(k).to_corenet_format()
        samples, targets = batch["samples"], batch["targets"]
        pipeline.scheduler.update_lr(optimizer, epoch=round_, curr_iter=k)
        loss = criterion(samples, model(samples), targets, epoch=round_, iterations=k)["total_loss"]
        optimizer.zero_grad()
        loss.backward()
        clip_norm = vars(options)["common.grad_clip"] or float("inf")
        nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(("method", "workers"), [("clip", None), ("catlip", None), ("clip", 1)])
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("_range_augment_in_order")
def test_losses_equal_a_loop_over_the_authors_parts(
    method: str, workers: int | None, checkout: Path, results: Path, shards: str, tmp_path: Path
) -> None:
    """On the pack, and on shards with loader workers."""
    file = RELEASED_FILES["vit-b16"][method]
    experiment = released_recipe(method, **SPEED)
    if workers is not None:
        experiment = released_recipe(method, shards, workers=workers, **FEW)
    measured = run_corenet_as_released(
        experiment, CPU, results, str(checkout), file, 1, is_tiny=True
    )
    losses = losses_by_hand(checkout, file, experiment, tmp_path, results, 1)
    assert measured.losses == pytest.approx(losses, rel=1e-5)
    assert len(measured.window_images) == len(measured.window_seconds)
    assert measured.changed.keys() - TINY.keys() - {"model.classification.n_classes"} == {
        "common.mixed_precision"
    }
    assert measured.commit == describe_current_commit(checkout)
    if workers is not None:
        assert measured.data_wait_share is not None
        assert measured.loader_workers == workers


@pytest.mark.parametrize("file", FILES)
def test_a_gpu_changes_no_key_of_a_file(file: str, checkout: Path, tmp_path: Path) -> None:
    pipeline, released, reasons = build_corenet_pipeline(
        checkout, file, tmp_path, torch.device("cuda"), is_tiny=False
    )
    in_file = dict(flattened(yaml.safe_load((checkout / file).read_text(encoding="utf-8"))))
    assert released.keys() == in_file.keys()
    assert (
        describe_changed_options(released, dict(flatten_options(vars(pipeline.opts))), reasons)
        == {}
    )


def test_run_on_a_gpu_is_of_the_recipe_and_differs_in_its_loading_alone() -> None:
    for scale in ("vit-b16", "vit-h16"):
        for recipe in released_experiments_by_file(scale, [], on_gpu=True).values():
            assert recipe == EXPERIMENTS[recipe.name]
        settings = ["data=/data/shards", "workers=4"]
        for loaded in released_experiments_by_file(scale, settings, on_gpu=True).values():
            recipe = EXPERIMENTS[f"{loaded.method}-{scale}-datacomp"]
            assert loaded.name == f"{recipe.name}[data=/data/shards,workers=4]"
            differing = {*differing_values_by_field([recipe, loaded])}
            assert differing == {"data", "workers", "pack_caption_lengths"}


def batch_of(k: int) -> CorenetBatch:
    return CorenetBatch(torch.full((2,), k), None, torch.zeros(2))


def test_next_batch_is_loaded_while_a_step_is_taken() -> None:
    loaded = [Event() for _ in range(6)]

    def load(k: int) -> CorenetBatch:
        loaded[k].set()
        return batch_of(k)

    loader = CorenetTimedLoader(
        WindowTimer(CPU, steps_per_window=2, num_windows=2, untimed_steps=1), load
    )
    for k, batch in enumerate(loader):
        assert batch["samples"].tolist() == [k, k]
        assert loaded[k + 1].wait(timeout=60)
    assert len(loader.wait_seconds) == 5


def test_tables_have_the_ratio_of_whole_runs_and_the_changed_keys(tmp_path: Path) -> None:
    clip, catlip = RELEASED_FILES["vit-b16"].values()
    of_clip = [record("clip-vit-b16-datacomp", run(clip, round_)) for round_ in range(5)]
    of_catlip = [
        record("catlip-vit-b16-datacomp", run(catlip, round_, (1.0, 1.0))) for round_ in range(5)
    ]
    path = tmp_path / "x.released-run.y.json"
    write_record(of_clip[0], path)
    assert read_record(path) == of_clip[0]
    speeds, changes = released_run_tables([*of_catlip, *of_clip])
    base, other = speeds.rows
    assert (base["file"], base["images/s"], base["ratio"]) == (clip, 2.0, None)
    assert (other["file"], other["images/s"], other["ratio"]) == (catlip, 4.0, pytest.approx(2.0))
    assert [row["file"] for row in changes.rows] == [clip, catlip]
    assert released_run_tables(of_clip)[0].rows[0]["ratio"] is None
    assert released_run_tables([])[0].rows == []
