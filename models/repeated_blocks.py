"""The blocks of a tower, and forwards on the `meta` device that compute blocks of equal structure once."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.utils._pytree import tree_map

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def iterate_blocks(tower: nn.Module) -> Iterator[nn.Module]:
    """Yield the blocks of a tower: the members of its outermost stacks.

    A stack is a module list, or a sequence of modules of one type. It has several members, all with parameters.
    """
    for child in tower.children():
        if _is_stack_of_blocks(child):
            yield from child.children()
        else:
            yield from iterate_blocks(child)


def _is_stack_of_blocks(module: nn.Module) -> bool:
    """Return whether a module is a stack of blocks, as `iterate_blocks` defines it."""
    members = list(module.children())
    is_list = isinstance(module, nn.ModuleList)
    if isinstance(module, nn.Sequential):
        types = {type(member) for member in members}
        is_list = len(types) == 1
    if not is_list or len(members) <= 1:
        return False
    return all(any(True for _ in member.parameters()) for member in members)


def copy_to_meta(tower: ModuleT) -> ModuleT:
    """Return a copy of a tower on the `meta` device, without a copy of its values on another device."""
    copies_on_meta = {}  # by the id of the tensor, as `deepcopy` looks up what is copied already
    for tensor in (*tower.parameters(), *tower.buffers()):
        copies_on_meta[id(tensor)] = tensor.detach().to("meta")
    return copy.deepcopy(tower, copies_on_meta)


@contextmanager
def compute_equal_blocks_once(
    tower: nn.Module, count_work: Callable[[], int] = int
) -> Iterator[list[int]]:
    """Compute blocks of equal structure once in all forwards in this context, on the `meta` device without values.

    `count_work` returns a running count of the work that is done, such as FLOPs. Yield a list, to which the work of
    each skipped block is added. The forward of a tower with many blocks takes a fraction of the time.
    """
    outputs: dict[str, tuple[Any, int]] = {}
    skipped: list[int] = []

    def forward_or_reuse(
        block: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Return the output of the block, or of an equal block that was computed before."""
        shapes = tree_map(_shape_if_tensor, (args, kwargs))
        structure = repr((block, shapes))
        if structure in outputs:
            output, counted = outputs[structure]
            skipped.append(counted)
            return output
        before = count_work()
        output = forward(*args, **kwargs)
        outputs[structure] = output, count_work() - before
        return output

    forwards = {block: block.forward for block in iterate_blocks(tower)}
    for block, forward in forwards.items():
        block.forward = partial(forward_or_reuse, block, forward)
    try:
        yield skipped
    finally:
        for block, forward in forwards.items():
            block.forward = forward


def _shape_if_tensor(value: Any) -> Any:
    """Return the shape of a tensor, and another value unchanged."""
    return tuple(value.shape) if isinstance(value, Tensor) else value
