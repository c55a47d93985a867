"""Processes of one run on one global batch: the group they form, a model spread over them, figures of them all.

Global batch k is the ranks' batches k, one behind the other. Gradients are means over the ranks: DDP and FSDP2 take
them, and the losses are made for it (`losses.collectives`).
"""

import faulthandler
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, cast

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]
from torch.nn.parallel import DistributedDataParallel

from bench.config import Experiment
from bench.environment.rank_info import place
from losses.collectives import Alike, Group, Meeting, summed
from models.image_tower import ImageTower
from models.text_tower import TextTower

GRAPHS_A_SIZE = 8  # dynamo's own limit where there is one size: captions have several widths
PATIENCE = "CATLIP_BENCH_PATIENCE"  # the environment's variable with the seconds of the longest wait
# Of a rank for the others; a failed one is noticed sooner (bench/orchestration/torchrun.py).
LONGEST_WAIT = timedelta(seconds=float(os.environ.get(PATIENCE, "600")))
WATCHED_SHARE = 0.9  # of it, without a step: then the process tells where it stands, before others give it up


@contextmanager
def joined(meeting: str, device: torch.device) -> Iterator[torch.device]:
    """Form the group of all ranks while the block runs, and give it this rank's device.

    Gloo joins CPUs, nccl GPUs, one a rank. `meeting` is a name that these processes share and no others; with an empty
    one a process is alone. The end waits for all: what rank 0 wrote is there when any of them has ended.
    """
    if not meeting:
        yield device
        return
    where, on_gpu = place(), device.type == "cuda"
    if on_gpu:
        device = torch.device("cuda", where.local_rank)
        torch.cuda.set_device(device)
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = PrefixStore(meeting, TCPStore(address, port, is_master=False, timeout=LONGEST_WAIT))
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=store,
        rank=where.rank,
        world_size=where.ranks,
        timeout=LONGEST_WAIT,
        device_id=device if on_gpu else None,
    )
    yield device
    faulthandler.cancel_dump_traceback_later()
    dist.barrier()
    dist.destroy_process_group()  # not after an error: it would wait for those who wait


def group_of_all() -> Group:
    """Return the group that was joined; None where this process is alone."""
    return dist.group.WORLD if dist.is_initialized() else None


def together(group: Group) -> None:
    """Wait until all are here."""
    if group is not None:
        expect_a_step()
        dist.barrier(group)


def expect_a_step() -> None:
    """Tell where every thread stands, and end, unless this is called again in time; a process alone may take its time.

    It needs no lock of the interpreter, which what hangs may hold.
    """
    if dist.is_initialized():
        seconds = WATCHED_SHARE * LONGEST_WAIT.total_seconds()
        faulthandler.dump_traceback_later(seconds, exit=True, file=2)  # standard error, whatever became of sys.stderr


def averaged(value: Float[Tensor, ""], group: Group) -> Float[Tensor, ""]:
    """Return the mean over the ranks; it is finite where it is on all of them."""
    return value if group is None else summed(value.clone(), group) / dist.get_world_size(group)


def of_each_rank(values: Sequence[float], device: torch.device, group: Group) -> tuple[tuple[float, ...], ...]:
    """Return every rank's figures, which are equally many; of a process alone its own."""
    if group is None:
        return (tuple(values),)
    own = torch.tensor(values, dtype=torch.float64, device=device)
    rows = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
    dist.all_gather(rows, own, group)
    return tuple(tuple(row.tolist()) for row in rows)


def largest(values: Sequence[float], device: torch.device, group: Group) -> tuple[float, ...]:
    """Return the largest of each figure over the ranks."""
    return tuple(map(max, zip(*of_each_rank(values, device, group), strict=True)))


class LossOf(nn.Module):
    """A model and its loss in one forward: DDP and FSDP2 average what is touched within the forward they wrap.

    The loss works beside the group's processes, or such as are simulated.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[nn.Module, Any, Any, Meeting], Tensor],
        group: Group,
        alike: Alike | None = None,
    ) -> None:
        super().__init__()
        self.model, self.loss, self.group, self.meeting = model, loss, group, alike or group

    def forward(self, images: Float[Tensor, "batch channels height width"], target: Any) -> Float[Tensor, ""]:
        """Return the loss."""
        return self.loss(self.model, images, target, self.meeting)


def spread(whole: LossOf, experiment: Experiment, precision: str, *, compiled: bool) -> nn.Module:
    """Spread a model over its group; the gradients that a backward of its loss leaves are means over the ranks.

    FSDP2 makes the model's parameters shards (DTensors), so that the optimizer has to be made afterwards.
    """
    if compiled:
        _expect_sizes(len(experiment.sides))
    if whole.group is not None and experiment.sharding == "fsdp2":
        return sharded(whole, precision, compiled=compiled)
    spread_out: nn.Module = whole
    if whole.group is not None:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # of a name that torch 2.13 has changed
            spread_out = DistributedDataParallel(
                whole,
                broadcast_buffers=False,  # what buffers count is counted over all ranks
                gradient_as_bucket_view=True,
                static_graph=not compiled,
            )
    return cast("nn.Module", torch.compile(spread_out)) if compiled else spread_out


def _expect_sizes(sizes: int) -> None:
    """Let dynamo make a graph for each image size: what is beyond its limit would run uncompiled without a word."""
    from torch._dynamo import config

    config.cache_size_limit = max(config.cache_size_limit, GRAPHS_A_SIZE * sizes)


def sharded(whole: LossOf, precision: str, *, compiled: bool) -> nn.Module:
    """Shard every block of the towers, and what is left.

    Scalars cannot be sharded: they are whole on every rank, and their gradients are averaged as they come. Blocks alone
    are compiled.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    device = next(whole.parameters()).device
    bf16 = precision == "bf16"
    shard = partial(
        fully_shard,
        mesh=init_device_mesh(device.type, (dist.get_world_size(),)),
        mp_policy=MixedPrecisionPolicy(torch.bfloat16, torch.float32) if bf16 else MixedPrecisionPolicy(),
    )
    for module in list(whole.modules()):
        if isinstance(module, ImageTower | TextTower):
            for block in blocks(module):
                if compiled:
                    block.compile()
                shard(block)
    scalars = {parameter for parameter in whole.parameters() if parameter.ndim == 0}
    for scalar in scalars:
        scalar.register_post_accumulate_grad_hook(_average_gradient)  # type: ignore[no-untyped-call]
    shard(whole, ignored_params=scalars)
    return whole


def blocks(tower: nn.Module) -> Iterator[nn.Module]:
    """Find the blocks of a tower: the members of its outermost lists or sequences of like modules with parameters."""
    for child in tower.children():
        row = list(child.children()) if isinstance(child, (nn.Sequential, nn.ModuleList)) else []
        is_row = len(row) > 1 and (isinstance(child, nn.ModuleList) or len({*map(type, row)}) == 1)
        if is_row and all(any(True for _ in one.parameters()) for one in row):
            yield from row
        else:
            yield from blocks(child)


def _average_gradient(parameter: Tensor) -> None:
    assert parameter.grad is not None
    summed(parameter.grad, dist.group.WORLD).div_(dist.get_world_size())


def apart(parameters: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Part shards from whole parameters, for one kernel takes one kind; all are of one but under FSDP2."""
    kinds: dict[bool, list[nn.Parameter]] = {}
    for parameter in parameters:
        kinds.setdefault(is_shard(parameter), []).append(parameter)
    return list(kinds.values())


def joint_norm(norms: Iterable[Float[Tensor, ""]]) -> Float[Tensor, ""]:
    """Return the norm of parts whose norms are given, gathered where they are shards'."""
    gathered = list(map(whole_tensor, norms))
    return gathered[0] if len(gathered) == 1 else torch.linalg.vector_norm(torch.stack(gathered))


def is_shard(tensor: Tensor) -> bool:
    """Tell a DTensor by what it can do: to import the class takes half a second."""
    return hasattr(tensor, "full_tensor")


def whole_tensor(tensor: Any) -> Tensor:
    """Gather a shard; every rank has to ask for it."""
    return cast("Tensor", tensor.full_tensor() if is_shard(tensor) else tensor)
