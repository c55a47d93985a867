"""Distributed runs: the process group, DDP and FSDP2, and figures over all ranks.

Global batch k is the concatenation of the ranks' batches k. DDP and FSDP2 average gradients over the ranks, which the
losses assume (`losses.collectives`).
"""

import faulthandler
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache, partial
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from jaxtyping import Float
from msgspec.structs import replace
from torch import Tensor, nn
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]
from torch.nn.parallel import DistributedDataParallel

from bench.environment.circumstances import Circumstances
from bench.environment.machine import describe_processors
from bench.environment.rank_info import MIXED_MACHINES, restart_count, torchrun_env
from bench.environment.variables import (
    DEFAULT_WATCHDOG_SECONDS,
    WATCHDOG_SECONDS,
    read_seconds_variable,
)
from bench.experiment.config import Experiment
from bench.experiment.fields import RuntimeSettings, Sharding
from bench.records.current import current_circumstances
from losses.collectives import (
    Group,
    ProcessGroupLike,
    SimulatedGroup,
    all_reduce_sum_,
    rank_and_world_size,
)
from models import Images
from models.tower_blocks import all_blocks

T = TypeVar("T")
AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}  # by precision
# Maximum wait of a rank for the others; torchrun notices a rank that has ended sooner.
WATCHDOG_TIMEOUT = timedelta(
    seconds=read_seconds_variable(WATCHDOG_SECONDS) or DEFAULT_WATCHDOG_SECONDS
)
# of WATCHDOG_TIMEOUT without a step: then the process prints its stacks, before the others time out
WATCHDOG_FRACTION = 0.9


@cache
def rank_store() -> Store:
    """Connect to the key-value store of all ranks: torchrun's, or one that rank 0 opens if torchrun's is private.

    Rank 0 waits until all ranks are connected to its store.
    """
    rank_info = torchrun_env()
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":  # it outlives a restart
        agent_store = TCPStore(address, port, is_master=False, timeout=WATCHDOG_TIMEOUT)
        return PrefixStore(f"bench, restart {restart_count()}", agent_store)
    is_rank0 = rank_info.rank == 0
    return TCPStore(
        address, port, rank_info.world_size, is_master=is_rank0, timeout=WATCHDOG_TIMEOUT
    )


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Form the process group of all ranks for the block; a single process needs none.

    CPUs use gloo, GPUs nccl, one per rank. The end of the block is a barrier, so that the files of rank 0 exist when
    any rank has ended.
    """
    rank_info = torchrun_env()
    if rank_info.world_size == 1:
        yield
        return
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=rank_store(),
        rank=rank_info.rank,
        world_size=rank_info.world_size,
        timeout=WATCHDOG_TIMEOUT,
        device_id=device if on_gpu else None,
    )
    yield
    faulthandler.cancel_dump_traceback_later()
    dist.barrier()
    dist.destroy_process_group()  # not after an error, where it would deadlock with waiting ranks


def world_group() -> Group:
    """Return the process group of all ranks; None for a single process."""
    return dist.group.WORLD if dist.is_initialized() else None


def world_rank() -> int:
    """Return the number of this process among all ranks; 0 if it is alone."""
    return rank_and_world_size(world_group())[0]


def world_size() -> int:
    """Return the number of all ranks; 1 if this process is alone."""
    return rank_and_world_size(world_group())[1]


def barrier() -> None:
    """Wait until all ranks arrive."""
    if dist.is_initialized():
        rearm_stack_dump_timer()
        dist.barrier()


def rearm_stack_dump_timer() -> None:
    """Reset the watchdog of distributed runs, which prints the stacks of all threads and ends a stalled process.

    It does not need the interpreter's lock, which a stalled thread may hold.
    """
    if dist.is_initialized():
        seconds = WATCHDOG_FRACTION * WATCHDOG_TIMEOUT.total_seconds()
        # Standard error, even if sys.stderr is replaced.
        faulthandler.dump_traceback_later(seconds, exit=True, file=2)


def all_reduce_mean(value: Float[Tensor, ""], group: Group) -> Float[Tensor, ""]:
    """Return the mean over the ranks, which is finite if it is finite on all of them."""
    return (
        value
        if group is None
        else all_reduce_sum_(value.clone(), group) / dist.get_world_size(group)
    )


def all_gather_floats(
    values: Sequence[float], device: torch.device
) -> tuple[tuple[float, ...], ...]:
    """All-gather the figures, equally many on each rank."""
    if not dist.is_initialized():
        return (tuple(values),)
    row = torch.tensor(values, dtype=torch.float64, device=device)
    rows = [torch.empty_like(row) for _ in range(world_size())]
    dist.all_gather(rows, row)
    return tuple(tuple(row.tolist()) for row in rows)


def all_gather_objects(value: T) -> list[T]:
    """All-gather a value that can be pickled; a list of one for a single process."""
    values = [value] * world_size()
    if dist.is_initialized():
        dist.all_gather_object(values, value)
    return values


def circumstances_of_ranks(experiment: Experiment | None, device: torch.device) -> Circumstances:
    """Return the circumstances of a run of all ranks; ValueError as `require_equal_nodes`."""
    own = current_circumstances(experiment, device, world_size())
    processors = describe_processors(device)
    return replace(
        own, machine=own.machine.replace(processors, require_equal_nodes(processors, own.packages))
    )


def require_equal_nodes(processors: str, packages: Mapping[str, str]) -> str:
    """Raise ValueError if the ranks differ in processors or packages: the slowest sets the speed of all.

    The environment variable CATLIP_BENCH_MIXED_MACHINES allows different processors; all are returned, joined.
    """
    all_ranks = all_gather_objects((processors, dict(packages)))
    first_processors, first_packages = all_ranks[0]
    for rank, (of_rank, packages_of_rank) in enumerate(all_ranks):
        differing = {name for name, _ in packages_of_rank.items() ^ first_packages.items()}
        if differing:
            found = ", ".join(
                f"{name} {packages_of_rank.get(name)}, not {first_packages.get(name)}"
                for name in sorted(differing)
            )
            raise ValueError(
                f"rank {rank} has other packages than rank 0 ({found}): install equal ones on all nodes"
            )
        if of_rank != first_processors and os.environ.get(MIXED_MACHINES) != "1":
            text = f"rank {rank} runs on {of_rank}, and rank 0 on {first_processors}"
            raise ValueError(
                f"{text}: the slowest sets the speed of all; {MIXED_MACHINES}=1 allows it"
            )
    return " and ".join(dict.fromkeys(of_rank for of_rank, _ in all_ranks))


def all_reduce_max(values: Sequence[float], device: torch.device) -> tuple[float, ...]:
    """Return the maximum of each figure over the ranks."""
    return tuple(map(max, zip(*all_gather_floats(values, device), strict=True)))


class ModelWithLoss(nn.Module):
    """A model and its loss in one forward, so that DDP and FSDP2 synchronise the gradients of both.

    The loss communicates over the group or over a simulated one.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[nn.Module, Any, Any, ProcessGroupLike], Tensor],
        group: Group,
        simulated: SimulatedGroup | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.group = group
        self.loss_group = simulated or group

    def forward(self, images: Images, target: Any) -> Float[Tensor, ""]:
        return self.loss(self.model, images, target, self.loss_group)


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
    with warnings.catch_warnings(
        action="ignore", category=FutureWarning
    ):  # a name changed in torch 2.13
        return DistributedDataParallel(
            model_with_loss,
            broadcast_buffers=False,  # buffers already count over all ranks
            gradient_as_bucket_view=True,
            static_graph=True,
        )


def fully_shard_model(
    model_with_loss: ModelWithLoss, precision: str, sharding: Sharding
) -> nn.Module:
    """Shard every block of the towers, and the remaining parameters, over all ranks or over those of each node.

    With `zero2` the blocks' gathered weights are kept for the backward. Scalars cannot be sharded: every rank holds
    them, and a hook averages their gradients.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    device = next(model_with_loss.parameters()).device
    ranks = dist.get_world_size()
    ranks_per_node = torchrun_env().local_world_size
    if sharding == "hsdp":
        mesh = init_device_mesh(
            device.type,
            (ranks // ranks_per_node, ranks_per_node),
            mesh_dim_names=("nodes", "ranks"),
        )
    else:
        mesh = init_device_mesh(device.type, (ranks,), mesh_dim_names=("ranks",))
    dtype = AUTOCAST_DTYPES.get(precision)
    policy = MixedPrecisionPolicy(dtype, torch.float32) if dtype else MixedPrecisionPolicy()
    shard = partial(fully_shard, mesh=mesh, mp_policy=policy)
    for block in all_blocks(model_with_loss):
        shard(block, reshard_after_forward=sharding != "zero2")
    scalars = {parameter for parameter in model_with_loss.parameters() if parameter.ndim == 0}
    for scalar in scalars:
        scalar.register_post_accumulate_grad_hook(_average_gradient)  # type: ignore[no-untyped-call]
    shard(model_with_loss, ignored_params=scalars)
    return model_with_loss


def _average_gradient(parameter: Tensor) -> None:
    assert parameter.grad is not None
    all_reduce_sum_(parameter.grad, dist.group.WORLD).div_(dist.get_world_size())


def split_by_sharding(parameters: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Split parameters by sharding, because one kernel takes one kind; only FSDP2 has two kinds."""
    groups: dict[bool, list[nn.Parameter]] = {}
    for parameter in parameters:
        groups.setdefault(is_sharded(parameter), []).append(parameter)
    return list(groups.values())


def total_norm(norms: Iterable[Float[Tensor, ""]]) -> Float[Tensor, ""]:
    """Return the joint norm of groups from their norms, which are gathered if they are shards."""
    gathered = list(map(full_tensor, norms))
    return gathered[0] if len(gathered) == 1 else torch.linalg.vector_norm(torch.stack(gathered))


def is_sharded(tensor: Tensor) -> bool:
    """Return whether a tensor is a DTensor, without the import of its class, which takes half a second."""
    return hasattr(tensor, "full_tensor")


def full_tensor(tensor: Any) -> Tensor:
    """Gather a shard; all ranks must call it."""
    return cast("Tensor", tensor.full_tensor() if is_sharded(tensor) else tensor)
