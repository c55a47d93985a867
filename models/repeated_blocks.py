"""The blocks of a tower, and forwards on the `meta` device that compute blocks of equal structure once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map


def transformer_blocks(tower: nn.Module) -> Iterator[nn.Module]:
    """Yield the blocks of a tower: members of its outermost module lists, or sequences of one type, with parameters."""
    for child in tower.children():
        blocks = list(child.children()) if isinstance(child, (nn.Sequential, nn.ModuleList)) else []
        is_block_list = len(blocks) > 1 and (
            isinstance(child, nn.ModuleList) or len({*map(type, blocks)}) == 1
        )
        if is_block_list and all(any(True for _ in block.parameters()) for block in blocks):
            yield from blocks
        else:
            yield from transformer_blocks(child)


@dataclass(slots=True)
class BlockOutputCache:
    """Outputs of blocks, by structure and shapes of inputs; `skipped_count` is what skipped blocks would count."""

    count: Callable[[], int]
    skipped_count: int = 0
    _outputs: dict[str, tuple[Any, int]] = field(default_factory=dict)

    def forward(
        self, block: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Compute a block, or return the output of an equal one with inputs of equal shapes."""
        structure = repr(
            (forward, [*map(_settings, block.modules())], tree_map(_shape, (args, kwargs)))
        )
        if structure in self._outputs:
            output, counted = self._outputs[structure]
            self.skipped_count += counted
            return output
        before = self.count()
        output = forward(*args, **kwargs)
        self._outputs[structure] = output, self.count() - before
        return output


@contextmanager
def skip_repeated_blocks(
    tower: nn.Module, count: Callable[[], int] = int
) -> Iterator[BlockOutputCache]:
    """Compute blocks of equal structure once in the forwards of this block, on the `meta` device without values.

    `count` returns a running count of the work that is done. A tower with many blocks takes a fraction of the time.
    """
    cache = BlockOutputCache(count)
    blocks = list(transformer_blocks(tower))
    replaced_forwards = [block.__dict__.get("forward") for block in blocks]
    for block in blocks:
        block.forward = partial(cache.forward, block, block.forward)
    try:
        yield cache
    finally:
        for block, forward in zip(blocks, replaced_forwards, strict=True):
            if forward is None:
                del block.forward
            else:
                block.forward = forward


def _settings(module: nn.Module) -> tuple[object, ...]:
    """Return what determines the computation of a module beside its submodules."""
    plain = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, bool | int | float | str | tuple)
    }
    return (
        type(module),
        plain,
        [_shape(parameter) for parameter in module.parameters(recurse=False)],
    )


def _shape(value: Any) -> Any:
    return tuple(value.shape) if isinstance(value, Tensor) else value
