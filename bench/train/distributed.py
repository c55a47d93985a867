"""Distributed runs: the process group, DDP and FSDP2, and figures over all ranks.

Global batch k is the concatenation of the ranks' batches k. DDP and FSDP2 average gradients over the ranks, which the
losses assume (`losses.collectives`).
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache, partial
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import Store, rendezvous  # type: ignore[attr-defined]
from torch.nn.parallel import DistributedDataParallel

from bench.environment.torchrun_ranks import read_torchrun_ranks
from bench.environment.variables import (
    DEFAULT_WATCHDOG_SECONDS,
    WATCHDOG_SECONDS,
    read_integer_environment_variable,
)
from bench.experiment.fields import RuntimeSettings, Sharding
from losses import Scalar
from losses.collectives import (
    ProcessGroupOrNone,
    SimulatedGroup,
    all_reduce_sum_,
    rank_and_world_size,
)
from models import ImagesOrViews
from models.tower_blocks import get_all_tower_blocks

T = TypeVar("T")
AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}  # by precision
# Maximum wait of a rank for the others; torchrun notices a rank that has ended sooner.
WATCHDOG_TIMEOUT = timedelta(
    seconds=read_integer_environment_variable(WATCHDOG_SECONDS) or DEFAULT_WATCHDOG_SECONDS
)


@cache
def connect_rank_store() -> Store:
    """Connect to the key-value store of all ranks.

    torchrun holds it and outlives the ranks; without torchrun's store rank 0 does, and waits until all have connected.
    """
    connection = next(rendezvous("env://", timeout=WATCHDOG_TIMEOUT))
    store: Store = connection[0]
    return store


@contextmanager
def join_process_group(device: torch.device) -> Iterator[None]:
    """Join the process group of all ranks while the block runs; a single process joins none.

    CPUs use gloo, GPUs nccl, one per rank. The end of the block is a barrier, so that the files of rank 0 exist when
    any rank has ended.
    """
    ranks = read_torchrun_ranks()
    if ranks.world_size == 1:
        yield
        return
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=connect_rank_store(),
        rank=ranks.rank,
        world_size=ranks.world_size,
        timeout=WATCHDOG_TIMEOUT,
        device_id=device if on_gpu else None,
    )
    yield
    dist.barrier()
    dist.destroy_process_group()  # not after an error, where it would deadlock with waiting ranks


def world_group_or_none() -> ProcessGroupOrNone:
    """Return the process group of all ranks; None for a single process."""
    return dist.group.WORLD if dist.is_initialized() else None


def world_rank() -> int:
    """Return the global rank of this process; 0 if it is alone."""
    rank, _ = rank_and_world_size(world_group_or_none())
    return rank


def world_size() -> int:
    """Return the number of ranks; 1 if this process is alone."""
    _, ranks = rank_and_world_size(world_group_or_none())
    return ranks


def barrier() -> None:
    """Wait until all ranks arrive."""
    if dist.is_initialized():
        dist.barrier()


def all_reduce_mean(value: Scalar, group: ProcessGroupOrNone) -> Scalar:
    """Return the mean of a scalar over the ranks; it is finite only if the scalar is finite on all of them."""
    if group is None:
        return value
    return all_reduce_sum_(value.clone(), group) / dist.get_world_size(group)


def all_gather_objects(value: T) -> list[T]:
    """Return the picklable value of every rank, in the order of the ranks."""
    values = [value] * world_size()
    if dist.is_initialized():
        dist.all_gather_object(values, value)
    return values


def all_reduce_max(values: Sequence[float]) -> list[float]:
    """Return for each position the maximum over the ranks; each rank gives equally many values."""
    return [max(column) for column in zip(*all_gather_objects(values), strict=True)]


class ModelWithLoss(nn.Module):
    """A model and its loss in one forward, so that DDP and FSDP2 synchronise the gradients of both.

    The loss communicates over the group or over a simulated one.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[..., Tensor],
        group: ProcessGroupOrNone,
        simulated_group: SimulatedGroup | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.group = group
        self.loss_group = simulated_group or group

    def forward(self, images: ImagesOrViews, target: Any, **further: Any) -> Scalar:
        return self.loss(self.model, images, target, self.loss_group, **further)


def parallelize(
    model_with_loss: ModelWithLoss, runtime: RuntimeSettings, precision: str
) -> nn.Module:
    """Parallelize a model over its group; the gradients after a backward are means over the ranks.

    FSDP2 replaces the parameters by shards (DTensors), so that the optimizer must be built afterwards.
    """
    if model_with_loss.group is None:
        return model_with_loss
    if runtime.sharding != "ddp":
        return fully_shard_model(model_with_loss, precision, runtime.sharding)
    # DDP uses a name that changed in torch 2.13.
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        return DistributedDataParallel(
            model_with_loss,
            broadcast_buffers=False,  # buffers already count over all ranks
            gradient_as_bucket_view=True,
            static_graph=True,
        )


def fully_shard_model(
    model_with_loss: ModelWithLoss, precision: str, sharding: Sharding
) -> nn.Module:
    """Shard every block of the towers, and the remaining parameters, over all ranks or over the ranks of each node.

    With `fsdp2_no_reshard` the blocks' gathered weights are kept for the backward. Scalars cannot be sharded: every
    rank holds them, and a hook averages their gradients.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    device = next(model_with_loss.parameters()).device
    ranks = dist.get_world_size()
    if sharding == "hsdp":
        ranks_per_node = read_torchrun_ranks().local_world_size
        shape = (ranks // ranks_per_node, ranks_per_node)
        mesh = init_device_mesh(device.type, shape, mesh_dim_names=("nodes", "ranks"))
    else:
        mesh = init_device_mesh(device.type, (ranks,), mesh_dim_names=("ranks",))
    dtype = AUTOCAST_DTYPES.get(precision)
    policy = MixedPrecisionPolicy(dtype, torch.float32) if dtype else MixedPrecisionPolicy()
    shard = partial(fully_shard, mesh=mesh, mp_policy=policy)
    for block in get_all_tower_blocks(model_with_loss):
        shard(block, reshard_after_forward=sharding != "fsdp2_no_reshard")
    scalars = {parameter for parameter in model_with_loss.parameters() if parameter.ndim == 0}
    for scalar in scalars:
        scalar.register_post_accumulate_grad_hook(_average_gradient)  # type: ignore[no-untyped-call]
    shard(model_with_loss, ignored_params=scalars)
    return model_with_loss


def _average_gradient(parameter: Tensor) -> None:
    """Replace the gradient by its mean over all ranks."""
    assert parameter.grad is not None
    all_reduce_sum_(parameter.grad, dist.group.WORLD).div_(dist.get_world_size())


def split_by_sharding(parameters: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Group parameters into sharded ones (DTensors) and others, without empty groups: a kernel takes only one kind."""
    groups: dict[bool, list[nn.Parameter]] = {}
    for parameter in parameters:
        groups.setdefault(is_sharded(parameter), []).append(parameter)
    return list(groups.values())


def norm_of_group_norms(norms: Iterable[Scalar]) -> Scalar:
    """Return the norm of all gradients from the norms of groups of them, as a whole tensor and not a DTensor."""
    gathered = [gather_full_tensor(norm) for norm in norms]
    return gathered[0] if len(gathered) == 1 else torch.linalg.vector_norm(torch.stack(gathered))


def is_sharded(tensor: Tensor) -> bool:
    """Return whether a tensor is a DTensor, without the import of its class, which takes half a second."""
    return hasattr(tensor, "full_tensor")


def gather_full_tensor(tensor: Any) -> Tensor:
    """Return the whole of a DTensor, and another tensor unchanged; all ranks must call it."""
    whole = tensor.full_tensor() if is_sharded(tensor) else tensor
    return cast("Tensor", whole)
