"""Model of a training step on N GPUs, from the computation of one. No torch here.

A step consists of computation (data, forward and backward in proportion to images; the optimizer per step), the
products of a contrastive loss with the captions of other GPUs, and the communication that nothing hides.
"""

import math
from dataclasses import dataclass

from bench.environment.gpu_specs import GpuSpec
from bench.experiment.fields import Sharding
from bench.features.plan.collectives import (
    Interconnect,
    ParameterCounts,
    shard_count,
    step_collectives,
    total_seconds,
)
from bench.interfaces.method import Communication, get_method

MAX_GPUS = 4096  # at the end of a curve
OVERLAP = (
    0.8  # share of forward and backward that hides communication of gradients and weights: assumed
)
LOSS_SHARE = 0.5  # share of the peak in the loss's products: assumed, because of exponentials and sums between them
JOULES_PER_KWH = 3.6e6
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
    """FLOPs of an image and its caption, 2 per multiply-add."""

    forward: float  # of the trained model
    teacher: float = 0.0  # forward of a teacher, without a backward
    is_recomputed: bool = False  # whether activation checkpointing repeats the forward


@dataclass(frozen=True, slots=True)
class ComputeProfile:
    """Seconds of one GPU."""

    data: float  # per image
    forward: float  # per image
    backward: float  # per image
    optimizer: float  # per step
    captions: float  # per image in a contrastive loss, of which these seconds include the products
    loss_flops: float  # FLOP/s of the products with further captions


@dataclass(frozen=True, slots=True)
class PlanCase:
    """The experiment of a plan."""

    name: str
    weights: ParameterCounts
    compute: ComputeProfile
    batch: float  # images per step and GPU
    sharding: Sharding = "ddp"
    bytes_per_parameter: int = 4  # of the computation's precision


@dataclass(frozen=True, slots=True)
class Cluster:
    """The interconnect of GPUs; `overlap` is the share of forward and backward that can hide communication."""

    links: Interconnect
    overlap: float


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """The seconds of one step on `gpus` GPUs."""

    gpus: int
    images: float  # on all GPUs
    data: float
    forward: float
    backward: float
    extra_negatives_seconds: float  # products of a contrastive loss with further captions
    optimizer: float
    comm_seconds: (
        float  # all communication; NaN: the method does not say what its loss communicates
    )
    hidden_seconds: float  # communication hidden by forward and backward

    @property
    def exposed_seconds(self) -> float:
        """Communication that is not hidden."""
        return self.comm_seconds - self.hidden_seconds

    @property
    def seconds(self) -> float:
        """The whole step, exposed communication included."""
        loss_and_gradients = self.data + self.forward + self.backward + self.extra_negatives_seconds
        return loss_and_gradients + self.optimizer + self.exposed_seconds

    @property
    def images_per_second(self) -> float:
        """Throughput of all GPUs together."""
        return self.images / self.seconds

    @property
    def communication_share(self) -> float:
        """Share of exposed communication in the step."""
        return self.exposed_seconds / self.seconds


@dataclass(frozen=True, slots=True)
class TrainingCost:
    """Cost of a training."""

    hours: float
    gpu_hours: float
    price: float | None  # None if no price was given
    kwh: float | None  # of the GPUs alone; None if their power is unknown


def loss_peak_flops(device: GpuSpec, precision: str) -> float:
    """Return the peak in FLOP/s of a contrastive loss's products."""
    return device.bf16_flops if precision == "autocast" else device.fp32_flops


def compute_profile_from_flops(
    work: FlopsPerImage, device: GpuSpec, utilisation: float, precision: str
) -> ComputeProfile:
    """Return the seconds of a GPU whose dense products reach an assumed share of its bf16 peak.

    The backward is twice the forward, three times with activation checkpointing. The share is of whole steps and
    includes data loading and the optimizer. `precision` is the precision of a contrastive loss.
    """
    rate = utilisation * device.bf16_flops
    return ComputeProfile(
        data=0.0,
        forward=(work.forward + work.teacher) / rate,
        backward=(3 if work.is_recomputed else 2) * work.forward / rate,
        optimizer=0.0,
        captions=0.0,
        loss_flops=LOSS_SHARE * loss_peak_flops(device, precision),
    )


def plan_step(
    case: PlanCase, cluster: Cluster, gpus: int, global_batch: int | None = None
) -> PlannedStep:
    """Return the step on `gpus` GPUs, with the case's batch per GPU or a share of a global batch.

    With sharding each GPU updates its shard of the weights.
    """
    batch = case.batch if global_batch is None else global_batch / gpus
    compute = case.compute
    weights = case.weights
    forward = batch * compute.forward
    backward = batch * compute.backward
    further_pairs = batch * max(0.0, batch * gpus - compute.captions)
    communication = get_method(weights.method).communication
    is_unknown = communication is None and gpus > 1
    products = (
        2 * (communication or Communication()).loss_products * weights.feature_width * further_pairs
    )
    collectives = step_collectives(weights, case.sharding, case.bytes_per_parameter, batch, gpus)
    in_forward = total_seconds(collectives, gpus, cluster.links, "forward")
    in_backward = total_seconds(collectives, gpus, cluster.links, "backward")
    exposed = total_seconds(collectives, gpus, cluster.links, None)
    return PlannedStep(
        gpus=gpus,
        images=batch * gpus,
        data=batch * compute.data,
        forward=forward,
        backward=backward,
        extra_negatives_seconds=products / compute.loss_flops,
        optimizer=compute.optimizer / shard_count(case.sharding, gpus, cluster.links.gpus_per_node),
        comm_seconds=math.nan if is_unknown else in_forward + in_backward + exposed,
        hidden_seconds=min(in_forward, cluster.overlap * forward)
        + min(in_backward, cluster.overlap * backward),
    )


def scaling_curve(
    case: PlanCase, cluster: Cluster, gpus: int, global_batch: int | None = None
) -> list[PlannedStep]:
    """Return the steps on powers of two and on `gpus` GPUs, with at least one image of a global batch per GPU."""
    numbers = {1 << power for power in range(MAX_GPUS.bit_length())} | {gpus}
    limit = max(numbers) if global_batch is None else global_batch
    return [
        plan_step(case, cluster, number, global_batch)
        for number in sorted(numbers)
        if number <= limit
    ]


def training_cost(
    step: PlannedStep, images: int, price: float | None, watts: float | None
) -> TrainingCost:
    """Return the cost of `images` images at a price per GPU-hour and a constant power per GPU."""
    seconds = images / step.images_per_second
    gpu_hours = step.gpus * seconds / 3600
    return TrainingCost(
        hours=seconds / 3600,
        gpu_hours=gpu_hours,
        price=None if price is None else price * gpu_hours,
        kwh=None if watts is None else watts * step.gpus * seconds / JOULES_PER_KWH,
    )
