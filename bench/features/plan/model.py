"""Model of a training step on N devices, from one device's computation. No torch here.

A step consists of computation (data, forward and backward in proportion to images; the optimizer per step), the
products of a contrastive loss with additional captions, and the exposed communication.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.environment.gpu_specs import GpuSpec
from bench.experiment.fields import Sharding
from bench.features.plan.collectives import Interconnect, ParameterCounts, shard_count, step_collectives, total_seconds
from bench.interfaces.method import Communication, get_method

MAX_GPUS = 4096  # devices at the end of a curve
SCALING_TITLE = "As GPUs grow"  # title of the curve's table, by which `python -m reports plan` finds it
OVERLAP = 0.8  # share of forward and backward that hides communication of gradients and weights: assumed
LOSS_SHARE = 0.5  # share of the peak in these products: assumed, because of exponentials and sums between them
JOULES_PER_KWH = 3.6e6
NO_STEP_COST = (  # a note below steps from an assumed utilisation
    "All experiments have one utilisation, and no cost is per step: by construction, images per GPU (256 against "
    "1,024) make no difference but in communication."
)


@dataclass(frozen=True, slots=True)
class FlopsPerImage:
    """FLOPs of an image and its caption, 2 per multiply-add."""

    forward: float  # of the trained model
    teacher: float = 0.0  # forward of a teacher, without a backward
    is_recomputed: bool = False  # whether activation checkpointing repeats the forward


@dataclass(frozen=True, slots=True)
class ComputeProfile:
    """Seconds of one device."""

    data: float  # per image
    forward: float  # per image
    backward: float  # per image
    optimizer: float  # per step
    # number of captions per image in a contrastive loss; additional ones are `PlannedStep.extra_negatives_seconds`
    captions: float
    loss_flops: float  # FLOP/s of the products with additional captions

    def speed_up(self, times: float) -> "ComputeProfile":
        """Return the profile of a device whose forward and backward are so many times as fast."""
        return replace(self, forward=self.forward / times, backward=self.backward / times)


@dataclass(frozen=True, slots=True)
class PlanCase:
    """The experiment of a plan."""

    name: str
    weights: ParameterCounts
    compute: ComputeProfile
    batch: float  # images per step and device
    sharding: Sharding = "ddp"
    bytes_per_parameter: int = 4  # of the computation's precision


@dataclass(frozen=True, slots=True)
class Cluster:
    """The interconnect of devices; `overlap` is the share of forward and backward that can hide communication."""

    links: Interconnect
    overlap: float


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """The seconds of one step on `gpus` devices."""

    gpus: int
    images: float  # on all devices
    data: float
    forward: float
    backward: float
    extra_negatives_seconds: float  # products of a contrastive loss with additional captions
    optimizer: float
    comm_seconds: float  # all communication; NaN: the method does not say what its loss communicates
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
        """Throughput of all devices together."""
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
    """Return the seconds of a device whose dense products reach an assumed share of its bf16 peak.

    The backward is twice the forward, three times with activation checkpointing. The share is of whole steps and
    includes data loading and the optimizer. `precision` is that of a contrastive loss.
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


def plan_step(case: PlanCase, cluster: Cluster, gpus: int, global_batch: int | None = None) -> PlannedStep:
    """Return the step on `gpus` devices, with the case's batch per device or a share of a global batch.

    With sharding each device updates its shard of the weights.
    """
    batch = case.batch if global_batch is None else global_batch / gpus
    compute, weights = case.compute, case.weights
    forward, backward = batch * compute.forward, batch * compute.backward
    pairs = batch * max(0.0, batch * gpus - compute.captions)
    communication = get_method(weights.method).communication
    is_unknown = communication is None and gpus > 1
    products = 2 * (communication or Communication()).loss_products * weights.feature_width * pairs
    collectives = step_collectives(weights, case.sharding, case.bytes_per_parameter, batch, gpus)
    in_forward, in_backward, exposed = (
        total_seconds(collectives, gpus, cluster.links, phase) for phase in ("forward", "backward", None)
    )
    return PlannedStep(
        gpus=gpus,
        images=batch * gpus,
        data=batch * compute.data,
        forward=forward,
        backward=backward,
        extra_negatives_seconds=products / compute.loss_flops,
        optimizer=compute.optimizer / shard_count(case.sharding, gpus, cluster.links.gpus_per_node),
        comm_seconds=math.nan if is_unknown else in_forward + in_backward + exposed,
        hidden_seconds=min(in_forward, cluster.overlap * forward) + min(in_backward, cluster.overlap * backward),
    )


def scaling_curve(case: PlanCase, cluster: Cluster, gpus: int, global_batch: int | None = None) -> list[PlannedStep]:
    """Return the steps on powers of two and on `gpus` devices, with at least one image of a global batch per device."""
    numbers = {1 << power for power in range(MAX_GPUS.bit_length())} | {gpus}
    limit = max(numbers) if global_batch is None else global_batch
    return [plan_step(case, cluster, number, global_batch) for number in sorted(numbers) if number <= limit]


def first_slower_gpus(steps: Sequence[PlannedStep], share: float) -> int | None:
    """Return the smallest number of devices at which each is slower than a single one by more than `share`."""
    single = steps[0].images_per_second / steps[0].gpus
    return next((step.gpus for step in steps if step.images_per_second / step.gpus < (1 - share) * single), None)


def first_communication_bound(steps: Sequence[PlannedStep]) -> int | None:
    """Return the smallest number of devices at which exposed communication is more than half of the step."""
    return next((step.gpus for step in steps if step.communication_share > 1 / 2), None)


def training_cost(step: PlannedStep, images: int, price: float | None, watts: float | None) -> TrainingCost:
    """Return the cost of `images` images at a price per GPU-hour and a constant power per device."""
    seconds = images / step.images_per_second
    gpu_hours = step.gpus * seconds / 3600
    return TrainingCost(
        hours=seconds / 3600,
        gpu_hours=gpu_hours,
        price=None if price is None else price * gpu_hours,
        kwh=None if watts is None else watts * step.gpus * seconds / JOULES_PER_KWH,
    )
