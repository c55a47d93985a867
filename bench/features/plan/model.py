"""Model of a training step on N GPUs, from the computation of one. No torch here.

A step consists of computation (data, forward and backward in proportion to images; the optimizer per step), the
products of a contrastive loss with the captions of other GPUs, and the communication that nothing hides.
"""

import math
from dataclasses import dataclass

from bench.environment.gpu_specs import GpuSpec
from bench.experiment.fields import Sharding
from bench.features.plan.collectives import (
    Collective,
    ParameterCounts,
    list_step_collectives,
    total_collective_seconds,
)
from bench.features.plan.interconnect import Interconnect
from bench.interfaces.method import Communication, get_method

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
class FlopsPerImage:
    """FLOPs of the forward of an image and its caption, 2 per multiply-add."""

    forward: float  # of the trained model
    teacher: float = 0.0  # of a teacher, which has no backward
    is_recomputed: bool = False  # whether activation checkpointing repeats the forward


@dataclass(frozen=True, slots=True)
class ComputeProfile:
    """How fast one GPU computes: seconds per image, of the optimizer per step."""

    data_seconds: float
    forward_seconds: float
    backward_seconds: float
    optimizer_seconds: float
    # Number of captions with which each image is compared in a contrastive loss; the seconds include these products.
    num_captions: float
    loss_flops_per_second: float  # of the products with further captions


@dataclass(frozen=True, slots=True)
class PlanInputs:
    """What a plan needs of an experiment."""

    name: str
    parameter_counts: ParameterCounts
    compute: ComputeProfile
    batch: float  # images per step and GPU
    sharding: Sharding = "ddp"
    bytes_per_parameter: int = 4  # of the computation's precision

    def collectives(self, gpus: int) -> list[Collective]:
        """Return the collectives of a step on `gpus` GPUs."""
        return list_step_collectives(
            self.parameter_counts, self.sharding, self.bytes_per_parameter, self.batch, gpus
        )


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """The seconds of the parts of one step on `gpus` GPUs."""

    gpus: int
    num_images: float  # on all GPUs
    data_seconds: float
    forward_seconds: float
    backward_seconds: float
    extra_negatives_seconds: float  # products of a contrastive loss with the captions of other GPUs
    optimizer_seconds: float
    # All communication; NaN: the method does not say what its loss communicates.
    communication_seconds: float
    hidden_seconds: float  # communication hidden by forward and backward

    @property
    def exposed_seconds(self) -> float:
        """The seconds of communication that nothing hides."""
        return self.communication_seconds - self.hidden_seconds

    @property
    def seconds(self) -> float:
        """The seconds of the whole step, exposed communication included."""
        forward_and_backward = self.forward_seconds + self.backward_seconds
        loss_and_gradients = self.data_seconds + forward_and_backward + self.extra_negatives_seconds
        return loss_and_gradients + self.optimizer_seconds + self.exposed_seconds

    @property
    def images_per_second(self) -> float:
        """The images per second of all GPUs together."""
        return self.num_images / self.seconds


def loss_peak_flops_per_second(gpu: GpuSpec, precision: str) -> float:
    """Return the GPU's peak in FLOP/s in `contrastive_precision`, which is "fp32" or "autocast"."""
    return gpu.bf16_flops_per_second if precision == "autocast" else gpu.fp32_flops_per_second


def compute_profile_from_flops(
    work: FlopsPerImage, gpu: GpuSpec, utilisation: float, precision: str
) -> ComputeProfile:
    """Return the profile of a GPU whose dense products reach the share `utilisation` of its bf16 peak.

    The backward is twice the forward, three times with activation checkpointing. The share is of whole steps and
    includes data loading and the optimizer. `precision` is `contrastive_precision`.
    """
    rate = utilisation * gpu.bf16_flops_per_second
    return ComputeProfile(
        data_seconds=0.0,
        forward_seconds=(work.forward + work.teacher) / rate,
        backward_seconds=(3 if work.is_recomputed else 2) * work.forward / rate,
        optimizer_seconds=0.0,
        num_captions=0.0,
        loss_flops_per_second=LOSS_SHARE * loss_peak_flops_per_second(gpu, precision),
    )


def plan_step(case: PlanInputs, links: Interconnect, gpus: int) -> PlannedStep:
    """Predict a step on `gpus` GPUs, with the case's batch per GPU. With sharding each GPU updates its shard."""
    compute = case.compute
    forward = case.batch * compute.forward_seconds
    backward = case.batch * compute.backward_seconds
    further_pairs = case.batch * max(0.0, case.batch * gpus - compute.num_captions)
    communication = get_method(case.parameter_counts.method).communication
    num_products = (communication or Communication()).loss_products
    loss_flops = 2 * num_products * case.parameter_counts.feature_width * further_pairs
    collectives = case.collectives(gpus)
    in_forward = total_collective_seconds(collectives, gpus, links, "forward")
    in_backward = total_collective_seconds(collectives, gpus, links, "backward")
    communication_seconds = (
        in_forward + in_backward + total_collective_seconds(collectives, gpus, links, None)
    )
    return PlannedStep(
        gpus=gpus,
        num_images=case.batch * gpus,
        data_seconds=case.batch * compute.data_seconds,
        forward_seconds=forward,
        backward_seconds=backward,
        extra_negatives_seconds=loss_flops / compute.loss_flops_per_second,
        optimizer_seconds=compute.optimizer_seconds / (1 if case.sharding == "ddp" else gpus),
        communication_seconds=math.nan
        if communication is None and gpus > 1
        else communication_seconds,
        hidden_seconds=min(in_forward, OVERLAP * forward) + min(in_backward, OVERLAP * backward),
    )
