"""RangeAugment in a training: the tower sees changed images, its ranges are trained, and nothing of it is scored."""

from pathlib import Path
from typing import Any

import pytest
import torch

from bench.data import transforms
from bench.data.transforms import denormalise, normalise
from bench.interfaces.method import METHODS
from bench.measure.costs import count_mean_step_flops, count_parameters_and_forward_flops
from bench.measure.speed import measure_speed
from bench.train.build import TrainRun, build_train_run, open_batch_stream
from bench.train.distributed import gather_full_tensor
from bench.train.state import split_tower_and_head_weights
from losses.psnr import psnr_loss, scheduled_target_mse
from models.range_augment import RangeAugment
from tests.processes import in_ranks
from tests.small import TWO_BLOCKS, few_images
from tests.tensors import differing

CPU = torch.device("cpu")
RATE = 1e-2


def assembled(
    results: Path, method: str = "catlip", augmentation: str = "range", **changes: object
) -> TrainRun:
    return build_train_run(
        open_batch_stream(few_images(method, augmentation=augmentation, **changes), CPU, results)
    )


def augmentor_of(run: TrainRun) -> RangeAugment:
    assert isinstance(run.model.augmentor, RangeAugment)
    return run.model.augmentor


@pytest.mark.parametrize("method", ["clip", "catlip", "superclip", "distill"])
def test_loss_is_the_methods_on_augmented_images_and_that_of_their_psnr(
    method: str, results: Path
) -> None:
    run = assembled(results, method)
    batch = run.stream.batch(0)
    torch.manual_seed(7)
    found = run.step.forward(batch)
    torch.manual_seed(7)
    pixels = denormalise(batch.images)
    augmented = augmentor_of(run)(pixels)
    if method in ("superclass", "superclip"):
        run.model.counts.images_with_token.zero_()
        run.model.counts.images_seen.zero_()
    expected = METHODS[method].loss(run.model, normalise(augmented), batch.target, None)
    target = scheduled_target_mse(
        torch.zeros((), dtype=torch.float64), 6
    )  # 96 images in steps of 16
    torch.testing.assert_close(found, expected + psnr_loss(pixels, augmented, target))
    assert not torch.allclose(augmented, pixels, atol=0.1)


def test_ranges_are_trained_and_their_target_falls_with_the_steps(results: Path) -> None:
    """The micro-batches of a batch are one step."""
    run = assembled(results, micro_batches=4)
    before = {name: value.clone() for name, value in augmentor_of(run).named_parameters()}
    losses = [run.step(run.stream.batch(k), RATE) for k in range(3)]
    assert torch.stack(losses).isfinite().all()
    assert augmentor_of(run).steps_taken == 3
    assert len(before) == 6
    assert {*differing(dict(augmentor_of(run).named_parameters()), before)} == {*before}


def test_scored_tower_and_head_hold_nothing_of_the_augmentation(results: Path) -> None:
    for ema_decay in (None, 0.9):
        plain, augmented = (
            assembled(results, augmentation=one, ema_decay=ema_decay) for one in ("none", "range")
        )
        for state, other in zip(
            split_tower_and_head_weights(plain),
            split_tower_and_head_weights(augmented),
            strict=True,
        ):
            assert state.keys() == other.keys()


def test_costs_count_six_parameters_and_the_gradient_of_the_images(results: Path) -> None:
    plain, augmented = (few_images("catlip", augmentation=name) for name in ("none", "range"))
    assert (
        count_parameters_and_forward_flops(augmented).trained_parameters
        == count_parameters_and_forward_flops(plain).trained_parameters + 6
    )
    target = open_batch_stream(plain, CPU, results).target(0)
    before, after = (
        count_mean_step_flops(experiment, [target]) for experiment in (plain, augmented)
    )
    patches, patch, width = 16, 3 * 12 * 12, 128
    assert after.step - before.step == 2 * plain.training.batch_size * patches * patch * width
    assert after.forward == before.forward


def test_augmentation_is_a_phase_of_its_own(results: Path) -> None:
    augmented = measure_speed(
        few_images("catlip", **TWO_BLOCKS, augmentation="range"), CPU, results, 0
    )
    assert {*augmented.phase_seconds} == {
        *("data", "augmentation", "image forward", "head and loss", "backward", "optimizer")
    }
    assert min(augmented.phase_seconds["augmentation"]) > 0


def trained(_rank: int, _ranks: int, results: Path) -> dict[str, dict[str, Any]]:
    """The losses of three steps and the augmentation's state after them, by sharding."""
    found = {}
    for sharding in ("ddp", "fsdp2"):
        run = assembled(results, batch_size=8, sharding=sharding, **TWO_BLOCKS)
        losses = [run.step(run.stream.batch(k), RATE) for k in range(3)]
        state = augmentor_of(run).state_dict()
        whole = {name: gather_full_tensor(value).clone() for name, value in state.items()}
        found[sharding] = {"losses": torch.stack(losses), **whole}
    return found


def test_ranks_keep_equal_ranges(results: Path, tmp_path: Path) -> None:
    open_batch_stream(few_images("catlip"), CPU, results)  # decoded before there are several
    first, second = in_ranks(trained, 2, tmp_path, results)
    for sharding, state in first.items():
        assert not differing(state, second[sharding])
        assert state["steps_taken"] == 3
        torch.testing.assert_close(state["losses"], first["ddp"]["losses"], rtol=1e-4, atol=0)


def test_training_follows_scoring_in_one_process() -> None:
    """The statistics of the pixels are kept, and autograd refuses tensors that were made in inference mode."""
    transforms._normalisation_mean_and_std.cache_clear()
    images = torch.rand(2, 3, 4, 4, requires_grad=True)
    with torch.inference_mode():
        transforms.normalise(images)
    transforms.normalise(images).sum().backward()
    assert images.grad is not None
