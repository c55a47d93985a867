"""Exact counts of what torch runs: FLOPs of matrix products, bytes of live tensors, and compiled graphs."""

import sys
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from models.repeated_blocks import compute_equal_blocks_once


def count_matmul_flops(work: Callable[[], object]) -> int:
    """Call `work` and return the FLOPs of its matrix products, two for each multiply-add."""
    with _make_flop_counter() as counter:
        work()
    return int(counter.get_total_flops())


class ForwardBackwardFlops(NamedTuple):
    """FLOPs of the matrix products of a forward and its backward."""

    total: int
    without_backward: int  # of forwards of modules whose outputs need no gradient, as a teacher's


def count_step_matmul_flops(compute_loss: Callable[[], Tensor]) -> ForwardBackwardFlops:
    """Return the FLOPs of a loss, whose tensors are on the `meta` device, and of its backward."""
    without_backward = 0
    # Both counts, of each module that is being computed.
    counts_at_start: list[tuple[int, int]] = []

    def start(*_: object) -> None:
        counts_at_start.append((counter.get_total_flops(), without_backward))

    def stop(_module: nn.Module, _inputs: object, output: object) -> None:
        nonlocal without_backward
        total_before, without_backward_before = counts_at_start.pop()
        if not any(leaf.requires_grad for leaf in tree_leaves(output) if isinstance(leaf, Tensor)):
            flops_of_module = counter.get_total_flops() - total_before
            without_backward = without_backward_before + flops_of_module

    with _make_flop_counter() as counter:
        with register_module_forward_pre_hook(start), register_module_forward_hook(stop):
            loss = compute_loss()
        loss.backward()  # type: ignore[no-untyped-call]
    return ForwardBackwardFlops(counter.get_total_flops(), without_backward)


def count_forward_flops(meta_tower: nn.Module, *meta_inputs: Any) -> int:
    """Return the FLOPs of the matrix products of a tower's forward on the `meta` device."""
    with (
        _make_flop_counter() as counter,
        compute_equal_blocks_once(meta_tower, counter.get_total_flops) as skipped,
    ):
        meta_tower(*meta_inputs)
    return int(counter.get_total_flops()) + sum(skipped)


def count_flops_of_one_image(meta_tower: nn.Module, channels: int, side: int) -> int:
    """Return the FLOPs of one image's forward on the `meta` device."""
    with torch.device("meta"):
        images = torch.empty(2, channels, side, side)
    return count_forward_flops(meta_tower, images) // 2


class _NoModuleTracker(nullcontext[None]):
    """Takes the place of torch's tracker of modules, which fails where one is given a view of a parameter in no_grad.

    Such a view is the query of attention pooling. Only totals are read here.
    """

    parents = ("Global",)  # under which the counter adds up the total


def _make_flop_counter() -> FlopCounterMode:
    """Return torch's counter, which also counts in-place products and accepts views of parameters."""
    products = {  # by the shapes of the factors
        torch.ops.aten.addmm_: lambda _, left, right, **__: 2 * left[0] * left[1] * right[1]
    }
    counter = FlopCounterMode(display=False, custom_mapping=products)
    counter.mod_tracker = cast("Any", _NoModuleTracker())
    return counter


def count_compiled_graphs() -> int:
    """Return the number of graphs that dynamo has compiled in this process."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    if dynamo is None:
        return 0
    return int(dynamo.counters["stats"]["unique_graphs"])


class TensorByteCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of live tensors' storages on a device while it is entered; `peak_bytes` is their maximum.

    A storage counts once, however many tensors share it. Temporary memory inside an operation is not counted, nor is
    the allocator's overhead.
    """

    def __init__(self, device: torch.device, live_tensors: Iterable[Tensor]) -> None:
        """Start with the storages of the tensors that exist already."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak_bytes = 0
        self._device = device.type
        self._live = 0  # bytes
        self._storages: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        for tensor in live_tensors:
            self._add_storage(tensor)

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._add_storage(leaf)
        return result

    def _add_storage(self, tensor: Tensor) -> None:
        """Count the storage of a tensor unless it is counted already."""
        if tensor.device.type != self._device:
            return
        storage = tensor.untyped_storage()
        key = storage._cdata  # noqa: SLF001 - the storage's address, equal for all views
        size = storage.nbytes()
        if key not in self._storages:
            remove = partial(self._remove_storage, key, size)
            self._storages[key] = weakref.ref(storage, remove)
            self._live += size
            self.peak_bytes = max(self.peak_bytes, self._live)

    def _remove_storage(self, key: int, size: int, _: object) -> None:
        """Count a storage no more; weakref calls it after the storage's end."""
        del self._storages[key]
        self._live -= size
