"""A run of several image sizes from end to end: what it trains on, and what its records count."""

from itertools import accumulate
from pathlib import Path
from statistics import fmean

import pytest
import torch
from msgspec.structs import asdict
from safetensors.torch import load_file
from torch._dynamo import config as dynamo

from bench.data.image_sizes import make_batch_shape_schedule
from bench.experiment.config import Experiment, change
from bench.measure.costs import count_mean_step_flops
from bench.measure.speed import measure_speed
from bench.measure.timed_run import TimedRun
from bench.orchestration.budgets import image_budgets
from bench.records.record import CooledDownTower, Speed, Training
from bench.towers.provenance import read_tower_provenance
from bench.train.build import (
    build_train_run,
    build_untrained_tower,
    open_batch_stream,
    steps_with_each_size_first,
)
from bench.train.loop import train
from bench.train.step import make_train_step
from bench.transfer.feature_extractor import make_tower_embedder
from bench.transfer.tasks.image_sources import composite_on_white
from reports.render.loss_curves import trunk_and_cooldown_points
from tests.small import few_images, small

CPU = torch.device("cpu")
SIDES = (32, 48, 64)


def several(method: str, **changes: object) -> Experiment:
    """As small as `small`, with a ViT of timm's that is made for tests."""
    return few_images(
        method,
        **{"tower": "test_vit", "text_tower": "two-blocks", "random_image_sizes": SIDES} | changes,
    )


# Captions of one width are counted once for each image size.
TIMED = several("clip", timed_windows=3, steps_per_window=1, text_padding="max_length")


@pytest.fixture(scope="module")
def speed(results: Path) -> Speed:
    return measure_speed(TIMED, CPU, results, 0)


def test_batch_size_follows_from_its_image_size(results: Path) -> None:
    stream = open_batch_stream(several("clip"), CPU, results)
    for k in range(6):
        batch, side = stream.batch(k), make_batch_shape_schedule(stream.experiment).shape_at(k).side
        size = {32: 36, 48: 16, 64: 9}[side]
        assert batch.images.shape == (size, 3, side, side)
        assert len(stream.keys(k)) == len(batch.target.lengths) == size


def test_multi_size_training_counts_its_images_and_its_tower_is_scored(
    results: Path, tmp_path: Path
) -> None:
    experiment = several("superclass", images_seen=150)
    budgets = image_budgets(experiment, {}, half_way=True)
    training = train(
        experiment, CPU, results, budgets, lambda images: tmp_path / f"{images}.safetensors"
    )
    images_of_branches = [branch.images for branch in training.branches]
    steps = [
        make_batch_shape_schedule(experiment).nearest_step_count(images)
        for images in images_of_branches
    ]
    assert len(training.trunk_losses) + len(training.cooldown_losses[-1]) == steps[-1]
    assert images_of_branches == [
        make_batch_shape_schedule(experiment).images_per_device_before(step) for step in steps
    ]
    path = tmp_path / f"{images_of_branches[-1]}.safetensors"
    assert read_tower_provenance(path).images == images_of_branches[-1]
    tower = build_untrained_tower(experiment)
    tower.load_state_dict(load_file(path))
    images = composite_on_white(torch.zeros(2, 4, 64, 64, dtype=torch.uint8))
    assert make_tower_embedder(tower, CPU)(images).shape == (2, tower.width)


def test_loss_curves_are_at_images_seen() -> None:
    experiment = several("catlip", images_seen=1000)
    branch = CooledDownTower(
        images=make_batch_shape_schedule(experiment).images_per_device_before(30),
        budgets=("equal images",),
        tower="t",
    )
    training = Training(
        trunk_losses=(1.0,) * 25, cooldown_losses=((0.5,) * 5,), branches=(branch,), seconds=1.0
    )
    batches = [make_batch_shape_schedule(experiment).shape_at(k).num_images for k in range(30)]
    trunk, cooled = trunk_and_cooldown_points(
        make_batch_shape_schedule(experiment), training, 1
    ).values()
    assert [images for images, _ in (*trunk, *cooled)] == list(accumulate(batches))


def test_throughput_counts_the_images_really_seen(speed: Speed, results: Path) -> None:
    stream = open_batch_stream(TIMED, CPU, results)
    number = len(speed.window_seconds)
    sizes = [len(stream.batch(k).images) for k in range(1 + number + len(speed.phase_images))]
    assert speed.window_images == tuple(sizes[1 : 1 + number])
    assert speed.phase_images == tuple(sizes[1 + number :])
    assert len({*speed.window_images}) > 1
    rate = sum(speed.window_images) / sum(speed.window_seconds)
    assert TimedRun(TIMED, speed).images_per_second_of_all_windows() == rate
    assert TimedRun(TIMED, speed).images_per_step() == pytest.approx(fmean(speed.window_images))
    assert {len(seconds) for seconds in speed.phase_seconds.values()} == {len(speed.phase_images)}


def test_flops_of_a_record_are_the_mean_over_its_steps(speed: Speed, results: Path) -> None:
    """Each step counted alone, at its own size."""
    stream = open_batch_stream(TIMED, CPU, results)
    separate = []
    for k in range(1, 4):
        side = make_batch_shape_schedule(TIMED).shape_at(k).side
        sized = change(
            TIMED,
            image_size=side,
            random_image_sizes=(),
            batch_size=TIMED.device_batch_size_at(side),
        )
        separate.append(asdict(count_mean_step_flops(sized, [stream.target(k)])))
    for name, counted in asdict(speed.flops).items():
        assert counted == pytest.approx(fmean(flops[name] for flops in separate), rel=1e-6), name


def test_warmup_visits_every_image_size_largest_first() -> None:
    batch_shapes = make_batch_shape_schedule(several("clip"))
    steps = steps_with_each_size_first(batch_shapes, 4)
    assert [batch_shapes.shape_at(k).side for k in steps[:3]] == [
        64,
        48,
        32,
    ]
    assert {*steps} >= {*range(4)}
    assert len({*steps}) == len(steps)
    assert steps_with_each_size_first(make_batch_shape_schedule(small("clip")), 4) == [0, 1, 2, 3]


def test_single_size_tower_is_refused_before_running(results: Path) -> None:
    with pytest.raises(
        ValueError, match=r"'catlip-bench-tiny' does not take images of 36, 48, 60 px"
    ):
        build_train_run(
            open_batch_stream(few_images("clip", random_image_sizes=(36, 48, 60)), CPU, results)
        )


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # of torch's own modules, as they are imported
def test_compiled_step_allows_graphs_for_all_image_sizes(results: Path) -> None:
    """Beyond dynamo's limit a size would run uncompiled without a word."""
    run = build_train_run(
        open_batch_stream(
            several("catlip", random_image_sizes=tuple(range(32, 224, 16))), CPU, results
        )
    )
    with dynamo.patch(recompile_limit=8):
        make_train_step(run.stream.experiment, run.model, run.method, "fp32", compiled=True)
        assert dynamo.recompile_limit >= 12
