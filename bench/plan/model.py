"""The step of an experiment on N devices: one device's computation, and what a model says of the rest. No torch here.

A step takes its computation (data, forward, backward: so long an image; optimizer: so long a step), the products of a
contrastive loss with further captions, and that part of the communication that no computation hides.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.config import MethodName, Sharding
from bench.environment.gpu_specs import Device
from bench.plan.collectives import Links, Weights, collectives_of, total_seconds

LARGEST = 4096  # devices that a curve goes to
AS_GPUS_GROW = "As GPUs grow"  # what its table is called, where `python -m reports plan` finds it
# Products of batch x columns x width that a step of the loss takes, the backward's included (`losses`): the logits
# twice and two gradients, or once where the forward makes the gradients.
LOSS_PRODUCTS: dict[MethodName, int] = {"clip": 4, "superclip": 4, "siglip": 3}
OVERLAP = 0.8  # share of forward and backward behind which gradients and weights are sent: assumed
LOSS_SHARE = 0.5  # of the fp32 peak that these reach: assumed, for exponentials and sums stand between them
JOULES_A_KWH = 3.6e6


@dataclass(frozen=True, slots=True)
class Work:
    """FLOPs of an image and its caption, 2 a multiply-add."""

    forward: float  # of what is trained
    teacher: float = 0.0  # forward of a teacher: no backward follows it
    is_recomputed: bool = False  # the forward a second time, in the backward


@dataclass(frozen=True, slots=True)
class Compute:
    """How long one device alone takes, in seconds."""

    data: float  # of an image
    forward: float  # of an image
    backward: float  # of an image
    optimizer: float  # of a step, however many images it has
    captions: float  # that an image meets in a contrastive loss within that time; the rest is `Step.further`
    loss_flops: float  # FLOP/s of the loss' fp32 products with the rest


@dataclass(frozen=True, slots=True)
class Case:
    """An experiment to plan for."""

    name: str
    weights: Weights
    compute: Compute
    batch: float  # images of a step, on one device
    sharding: Sharding = "ddp"
    bytes_a_weight: int = 4  # of the computation's precision


@dataclass(frozen=True, slots=True)
class Cluster:
    """What joins the devices; `overlap` is the share of forward and backward behind which they can send."""

    links: Links
    overlap: float


@dataclass(frozen=True, slots=True)
class Step:
    """One step on so many devices, in seconds of each."""

    gpus: int
    images: float  # of all devices
    data: float
    forward: float
    backward: float
    further: float  # a contrastive loss' products with captions that the time of an image does not include
    optimizer: float
    sent: float  # all communication
    hidden: float  # of it behind forward and backward

    @property
    def exposed(self) -> float:
        """Communication that nothing hides."""
        return self.sent - self.hidden

    @property
    def seconds(self) -> float:
        """The whole step."""
        return self.data + self.forward + self.backward + self.further + self.optimizer + self.exposed

    @property
    def images_per_second(self) -> float:
        """Of all devices together."""
        return self.images / self.seconds

    @property
    def communication_share(self) -> float:
        """Share of the step in which devices wait for each other."""
        return self.exposed / self.seconds


@dataclass(frozen=True, slots=True)
class Cost:
    """What a number of images costs."""

    hours: float
    gpu_hours: float
    price: float | None  # None: no price was given
    kwh: float | None  # of the GPUs alone; None: their power is not known


def assumed_compute(work: Work, device: Device, utilisation: float) -> Compute:
    """Return how long a device takes if its dense products reach a share of its bf16 peak: an assumption.

    The backward is twice the forward, with checkpointed activations three times. Loading and the optimizer are in the
    share, for it is taken of whole steps.
    """
    rate = utilisation * device.bf16
    return Compute(
        data=0.0,
        forward=(work.forward + work.teacher) / rate,
        backward=(3 if work.is_recomputed else 2) * work.forward / rate,
        optimizer=0.0,
        captions=0.0,
        loss_flops=LOSS_SHARE * device.fp32,
    )


def step_on(case: Case, cluster: Cluster, gpus: int, global_batch: int | None = None) -> Step:
    """Return the step on so many devices, each with the case's batch, or with its part of a global one.

    Where weights are sharded, every device updates its part of them alone.
    """
    batch = case.batch if global_batch is None else global_batch / gpus
    compute, weights = case.compute, case.weights
    forward, backward = batch * compute.forward, batch * compute.backward
    pairs = batch * max(0.0, batch * gpus - compute.captions)
    products = 2 * LOSS_PRODUCTS.get(weights.method, 0) * weights.feature_width * pairs
    collectives = collectives_of(weights, case.sharding, case.bytes_a_weight, batch, gpus)
    in_forward, in_backward, alone = (
        total_seconds(collectives, gpus, cluster.links, behind) for behind in ("forward", "backward", None)
    )
    return Step(
        gpus=gpus,
        images=batch * gpus,
        data=batch * compute.data,
        forward=forward,
        backward=backward,
        further=products / compute.loss_flops,
        optimizer=compute.optimizer / (gpus if case.sharding == "fsdp2" else 1),
        sent=in_forward + in_backward + alone,
        hidden=min(in_forward, cluster.overlap * forward) + min(in_backward, cluster.overlap * backward),
    )


def curve(case: Case, cluster: Cluster, gpus: int, global_batch: int | None = None) -> list[Step]:
    """Return the steps on 1, 2, 4 ... devices and on `gpus`; none has less than an image of a global batch."""
    numbers = {1 << power for power in range(LARGEST.bit_length())} | {gpus}
    most = max(numbers) if global_batch is None else global_batch
    return [step_on(case, cluster, number, global_batch) for number in sorted(numbers) if number <= most]


def slower_from(steps: Sequence[Step], share: float) -> int | None:
    """Return the fewest devices of a curve on which each is slower than one alone by more than a share."""
    alone = steps[0].images_per_second / steps[0].gpus
    return next((step.gpus for step in steps if step.images_per_second / step.gpus < (1 - share) * alone), None)


def bound_from(steps: Sequence[Step]) -> int | None:
    """Return the fewest devices of a curve which wait for each other longer than they compute."""
    return next((step.gpus for step in steps if step.communication_share > 1 / 2), None)


def cost_of(step: Step, images: int, price: float | None, watts: float | None) -> Cost:
    """Return what so many images cost at a price of a GPU-hour, all devices drawing so many watts all the time."""
    seconds = images / step.images_per_second
    gpu_hours = step.gpus * seconds / 3600
    return Cost(
        hours=seconds / 3600,
        gpu_hours=gpu_hours,
        price=None if price is None else price * gpu_hours,
        kwh=None if watts is None else watts * step.gpus * seconds / JOULES_A_KWH,
    )
