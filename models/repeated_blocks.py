"""The blocks of a tower, and forwards on the `meta` device that compute blocks of equal structure once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map


def transformer_blocks(tower: nn.Module) -> Iterator[nn.Module]:
    """Yield the blocks of a tower: members of its outermost module lists, or sequences of one type, with parameters."""
    for child in tower.children():
        blocks = list(child.children()) if isinstance(child, nn.Sequential | nn.ModuleList) else []
        is_list = isinstance(child, nn.ModuleList) or len({*map(type, blocks)}) == 1
        have_parameters = all(any(True for _ in block.parameters()) for block in blocks)
        if len(blocks) > 1 and is_list and have_parameters:
            yield from blocks
        else:
            yield from transformer_blocks(child)


@contextmanager
def skip_repeated_blocks(tower: nn.Module, count: Callable[[], int] = int) -> Iterator[list[int]]:
    """Compute blocks of equal structure once in the forwards of this block, on the `meta` device without values.

    `count` returns a running count of the work that is done. Yield a list of the work of each block that was skipped. A
    tower with many blocks takes a fraction of the time.
    """
    outputs: dict[str, tuple[Any, int]] = {}
    skipped: list[int] = []

    def compute(block: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        structure = repr((block, tree_map(_shape, (args, kwargs))))
        if structure in outputs:
            output, counted = outputs[structure]
            skipped.append(counted)
            return output
        before = count()
        output = forward(*args, **kwargs)
        outputs[structure] = output, count() - before
        return output

    replaced = [(block, vars(block).get("forward")) for block in transformer_blocks(tower)]
    for block, _ in replaced:
        block.forward = partial(compute, block, block.forward)
    try:
        yield skipped
    finally:
        for block, forward in replaced:
            del block.forward
            if forward is not None:
                block.forward = forward


def _shape(value: Any) -> Any:
    return tuple(value.shape) if isinstance(value, Tensor) else value
