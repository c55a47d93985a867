"""Model of a training step on N GPUs, from the computation of one. No torch here.

A step consists of computation (data, forward and backward in proportion to images; the optimizer per step), the
products of a contrastive loss with the captions of other GPUs, and the communication that nothing hides.
"""

import math
from dataclasses import dataclass

from bench.environment.gpu_specs import GpuSpec
from bench.experiment.fields import Sharding
from bench.features.plan.collectives import (
    ParameterCounts,
    StepCollective,
    list_step_collectives,
    sum_seconds_that_phase_can_hide,
)
from bench.features.plan.interconnect import Interconnect
from bench.interfaces.method import LossCommunication, get_method

# Share of forward and backward that hides communication of gradients and weights: assumed.
OVERLAP = 0.8
# Share of the peak in the loss's products: assumed, because of exponentials and sums between them.
LOSS_SHARE = 0.5
# Geometric mean of the share of the bf16 peak that the 26 published trainings of CLIP reach, communication excluded
# (tests/features/plan/published_runs.py). tests/features/plan/test_published.py computes it and the errors again.
UTILISATION = 0.166
MEDIAN_ERROR = 0.26  # of the images/s that are planned with it for these trainings
# Published over planned images/s: the ends of the central 80 % of these trainings.
PUBLISHED_LOW = 0.55
PUBLISHED_HIGH = 2.03
PUBLISHED_ERROR = (
    f"This utilisation predicts half of 26 published trainings of CLIP within {100 * MEDIAN_ERROR:.0f} %; 80 % of them "
    f"had {PUBLISHED_LOW:.2f} to {PUBLISHED_HIGH:.2f} times the predicted images/s. Two of the 26 ran on H100."
)


@dataclass(frozen=True, slots=True)
class ForwardFlopsPerPair:
    """FLOPs (2 per multiply-add) of the forward of one image and its caption."""

    forward: float  # of the trained model
    teacher: float = 0.0  # of a teacher, which has no backward
    is_recomputed: bool = False  # whether activation checkpointing repeats the forward


@dataclass(frozen=True, slots=True)
class GpuComputeProfile:
    """How fast one GPU computes: seconds per image, and of the optimizer per step."""

    data_seconds: float  # per image
    forward_seconds: float  # per image
    backward_seconds: float  # per image
    optimizer_seconds: float  # per step
    # Number of captions with which each image is compared in a contrastive loss; the seconds include these products.
    num_captions: float
    loss_flops_per_second: float  # of the products with further captions


@dataclass(frozen=True, slots=True)
class PlanInputs:
    """What a plan needs to know of an experiment and of one GPU."""

    name: str
    parameter_counts: ParameterCounts
    compute: GpuComputeProfile
    images_per_gpu: float  # in a step
    sharding: Sharding = "ddp"
    bytes_per_parameter: int = 4  # of the computation's precision

    def collectives(self, num_gpus: int) -> list[StepCollective]:
        """Return the collectives of a step on `num_gpus` GPUs."""
        return list_step_collectives(
            self.parameter_counts,
            self.sharding,
            self.bytes_per_parameter,
            self.images_per_gpu,
            num_gpus,
        )


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """The seconds of the parts of one step on `num_gpus` GPUs."""

    num_gpus: int
    num_images: float  # on all GPUs
    data_seconds: float
    forward_seconds: float
    backward_seconds: float
    extra_negatives_seconds: float  # products of a contrastive loss with the captions of other GPUs
    optimizer_seconds: float
    # All communication; NaN: the method does not say what its loss communicates.
    communication_seconds: float
    hidden_communication_seconds: float  # while forward and backward compute

    @property
    def exposed_communication_seconds(self) -> float:
        """The seconds of communication that nothing hides."""
        return self.communication_seconds - self.hidden_communication_seconds

    @property
    def seconds(self) -> float:
        """The seconds of the whole step, exposed communication included."""
        forward_and_backward = self.forward_seconds + self.backward_seconds
        loss_and_gradients = self.data_seconds + forward_and_backward + self.extra_negatives_seconds
        return loss_and_gradients + self.optimizer_seconds + self.exposed_communication_seconds

    @property
    def images_per_second(self) -> float:
        """The images per second of all GPUs together."""
        return self.num_images / self.seconds


def assume_loss_flops_per_second(gpu: GpuSpec, clip_loss_precision: str) -> float:
    """Return the FLOP/s at which a GPU is assumed to compute the products of a contrastive loss.

    They are LOSS_SHARE of its peak; `clip_loss_precision` is "fp32" or "autocast", which is bf16 here.
    """
    if clip_loss_precision == "autocast":
        return LOSS_SHARE * gpu.bf16_flops_per_second
    return LOSS_SHARE * gpu.fp32_flops_per_second


def compute_profile_from_flops(
    work: ForwardFlopsPerPair, gpu: GpuSpec, utilisation: float, clip_loss_precision: str
) -> GpuComputeProfile:
    """Return the profile of a GPU whose dense products reach the share `utilisation` of its bf16 peak.

    The backward is twice the forward, three times with activation checkpointing. The share is of whole steps and
    includes data loading and the optimizer.
    """
    rate = utilisation * gpu.bf16_flops_per_second
    return GpuComputeProfile(
        data_seconds=0.0,
        forward_seconds=(work.forward + work.teacher) / rate,
        backward_seconds=(3 if work.is_recomputed else 2) * work.forward / rate,
        optimizer_seconds=0.0,
        num_captions=0.0,
        loss_flops_per_second=assume_loss_flops_per_second(gpu, clip_loss_precision),
    )


def predict_step_seconds(inputs: PlanInputs, links: Interconnect, num_gpus: int) -> PlannedStep:
    """Predict the seconds of a step on so many GPUs. With sharding each GPU updates its shard of the parameters."""
    compute = inputs.compute
    images = inputs.images_per_gpu
    forward = images * compute.forward_seconds
    backward = images * compute.backward_seconds
    communication = get_method(inputs.parameter_counts.method).communication
    num_products = (communication or LossCommunication()).loss_products
    further_pairs = images * max(0.0, images * num_gpus - compute.num_captions)
    loss_flops = 2 * num_products * inputs.parameter_counts.feature_width * further_pairs
    collectives = inputs.collectives(num_gpus)
    in_forward = sum_seconds_that_phase_can_hide(collectives, num_gpus, links, "forward")
    in_backward = sum_seconds_that_phase_can_hide(collectives, num_gpus, links, "backward")
    exposed = sum_seconds_that_phase_can_hide(collectives, num_gpus, links, None)
    communication_seconds = in_forward + in_backward + exposed
    if communication is None and num_gpus > 1:
        communication_seconds = math.nan
    return PlannedStep(
        num_gpus=num_gpus,
        num_images=images * num_gpus,
        data_seconds=images * compute.data_seconds,
        forward_seconds=forward,
        backward_seconds=backward,
        extra_negatives_seconds=loss_flops / compute.loss_flops_per_second,
        optimizer_seconds=compute.optimizer_seconds / (1 if inputs.sharding == "ddp" else num_gpus),
        communication_seconds=communication_seconds,
        hidden_communication_seconds=min(in_forward, OVERLAP * forward)
        + min(in_backward, OVERLAP * backward),
    )
