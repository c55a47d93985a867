"""Counts agree with what is built and with what open_clip publishes."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bench.data.targets import CaptionsWithRows
from bench.experiment.config import Experiment, change
from bench.experiment.experiments import get_experiment
from bench.interfaces.method import METHODS, Method
from bench.measure.costs import (
    META,
    build_tower_and_model_on_meta,
    count_mean_step_flops,
    count_parameters_and_forward_flops,
    make_meta_images,
)
from bench.records.record import StepFlops
from bench.train.build import build_untrained_tower, count_trained_parameters
from models.heads import DualEncoder
from tests.released_flops import forward_flops_as_released
from tests.small import TWO_BLOCKS, small


def targets_of(experiment: Experiment, *texts: str) -> Any:
    """The targets of a batch with these captions, or of one caption for each image."""
    captions = texts or ["a dog"] * experiment.training.batch_size
    return METHODS[experiment.method].make_target_function(experiment)(
        CaptionsWithRows.from_texts(captions)
    )


@pytest.mark.parametrize("method", [*METHODS])
def test_counted_costs_equal_those_of_the_built_model(method: str) -> None:
    experiment = small(method, **TWO_BLOCKS)
    model = METHODS[method].build_model(build_untrained_tower(experiment), experiment)
    costs, step = (
        count_parameters_and_forward_flops(experiment),
        count_mean_step_flops(experiment, [targets_of(experiment)]),
    )
    assert costs.trained_parameters == count_trained_parameters(model)
    assert costs.image_flops * experiment.training.batch_size == step.image_forward
    assert costs.text_flops * experiment.training.batch_size == step.text_forward


def test_flops_of_a_step_do_not_depend_on_the_precision_of_the_contrastive_loss() -> None:
    """They are counted on the `meta` device, which has no autocast."""
    experiment = small("clip", **TWO_BLOCKS)
    captions = targets_of(experiment)
    in_autocast = change(experiment, clip_loss_precision="autocast")
    assert count_mean_step_flops(in_autocast, [captions]) == count_mean_step_flops(
        experiment, [captions]
    )


def test_gathered_images_cost_two_more_products() -> None:
    """Of each process's rows with all of the other modality: six where captions alone need four."""
    experiment = small("clip", **TWO_BLOCKS, simulated_global_batch=64)
    captions = targets_of(experiment)
    alone, both = (
        count_mean_step_flops(change(experiment, gathered_features=gathered), [captions]).step
        for gathered in ("captions", "both")
    )
    _, model = build_tower_and_model_on_meta(experiment)
    assert isinstance(model, DualEncoder)
    assert both - alone == 2 * 2 * experiment.training.batch_size * 64 * model.text.width


@pytest.mark.parametrize(
    ("method", "tower"),
    [("clip", "vit_pe_core_tiny_patch16_384"), ("catlip", "mobilenetv4_conv_small_035")],
)
def test_tower_with_attention_pooling_or_batch_norm_is_counted_as_torch_counts_a_step(
    method: str, tower: str
) -> None:
    experiment = small(method, tower=tower, image_size=32, batch_size=2)
    target = targets_of(experiment)
    _, model = build_tower_and_model_on_meta(experiment)
    products = {torch.ops.aten.addmm_: lambda _, a, b, **__: 2 * a[0] * a[1] * b[1]}
    with FlopCounterMode(display=False, custom_mapping=products) as counter:
        METHODS[method].loss(model, make_meta_images(2, 32, 3), target.to(META), None).backward()
    counted = count_mean_step_flops(experiment, [target])
    assert counted.step == counter.get_total_flops()
    assert counted.image_forward == 2 * count_parameters_and_forward_flops(experiment).image_flops


@pytest.mark.parametrize(
    ("name", "millions", "image", "text"),
    [("clip-vit-b32", 151.28, 8.82, 5.96), ("clip-vit-l14", 427.62, 162.03, 13.3)],
)
def test_parameters_and_flops_of_clip_are_those_that_open_clip_publishes(
    name: str, millions: float, image: float, text: float
) -> None:
    """Forward GFLOPs of docs/model_profile.csv; ours are fewer, for the last blocks compute one token alone."""
    experiment = get_experiment(name)
    assert forward_flops_as_released(experiment) / 1e9 == pytest.approx(image + text, abs=0.01)
    costs, (tower, model) = (
        count_parameters_and_forward_flops(experiment),
        build_tower_and_model_on_meta(experiment),
    )
    assert costs.trained_parameters / 1e6 == pytest.approx(millions, rel=1e-4)
    saved = of_one_token_alone(len(tower.trunk.positional_embedding), tower.trunk.transformer.width)
    assert (costs.image_flops + saved) / 1e9 == pytest.approx(image, rel=0.01)
    saved = of_one_token_alone(77, model.text.text.transformer.width)
    assert (costs.text_flops + saved) / 1e9 == pytest.approx(text, rel=0.01)


def of_one_token_alone(tokens: int, width: int) -> int:
    """FLOPs that a block saves whose other tokens give keys and values only: query, projection, MLP, attention."""
    return (tokens - 1) * (2 * (1 + 1 + 8) * width**2 + 2 * 2 * tokens * width)


@pytest.mark.parametrize("frozen", ["tower", "text"])
def test_forward_of_a_frozen_encoder_is_counted_without_a_backward(
    frozen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_model = type(METHODS["clip"]).build_model

    def build_frozen(self: Method, *arguments: Any) -> nn.Module:
        model = build_model(self, *arguments)
        getattr(model, frozen).requires_grad_(False)
        return model

    experiment = small("clip", **TWO_BLOCKS)
    targets = [targets_of(experiment)]
    assert count_mean_step_flops(experiment, targets).teacher_forward == 0
    monkeypatch.setattr(type(METHODS["clip"]), "build_model", build_frozen)
    flops = count_mean_step_flops(experiment, targets)
    forward = flops.image_forward if frozen == "tower" else flops.text_forward
    assert flops.teacher_forward == forward
    assert flops.step == pytest.approx(3 * flops.forward - 2 * forward, rel=0.1)


def test_flops_at_widths_between_the_counted_ones_are_exact() -> None:
    """A batch with captions of many widths is the mean of batches whose captions all have one of them."""
    experiment = small("superclip", **TWO_BLOCKS, batch_size=4)
    # Start and end are tokens, too.
    texts = [" ".join(["dog"] * (width - 2)) for width in (3, 6, 10, 14)]
    counted = count_mean_step_flops(experiment, [targets_of(experiment, *texts)])
    alone = [
        count_mean_step_flops(experiment, [targets_of(experiment, *[text] * 4)]) for text in texts
    ]
    for name in StepFlops.__struct_fields__:
        assert getattr(counted, name) == sum(getattr(flops, name) for flops in alone) // 4
