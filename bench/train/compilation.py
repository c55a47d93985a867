"""Compilation of the towers of a model, block by block."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from bench.environment.cores import available_cores
from bench.environment.rank_info import torchrun_env
from models.tower_blocks import all_blocks

GRAPHS_PER_IMAGE_SIZE = 16  # of a kind of block; bucketed captions have several widths


def compile_blocks(model: nn.Module, num_image_sizes: int) -> None:
    """Compile the blocks of a model's towers by `torch.compile`; all else stays eager.

    Equal blocks share a graph, so that compilation does not take longer for deeper towers. The gradients of a block
    are ready before those of the blocks below it, so that DDP and FSDP2 communicate during the backward. More graphs
    than a limit are an error (`translate_recompile_error`): by default dynamo would run it eagerly without a warning.
    """
    from torch._dynamo import config
    from torch._inductor import config as inductor_config

    cores = available_cores() // torchrun_env().local_world_size  # of this rank; inductor would take all
    inductor_config.compile_threads = max(1, min(inductor_config.decide_compile_threads(), cores))
    config.recompile_limit = GRAPHS_PER_IMAGE_SIZE * num_image_sizes
    config.fail_on_recompile_limit_hit = True
    for block in all_blocks(model):
        block.compile()


@contextmanager
def translate_recompile_error() -> Iterator[None]:
    """Raise RuntimeError with a remedy if a block would be compiled more often than the limit."""
    try:
        yield
    except Exception as error:
        dynamo = sys.modules.get("torch._dynamo")
        if dynamo is None or not isinstance(error, dynamo.exc.FailOnRecompileLimitHit):
            raise
        raise RuntimeError(
            f"a block needs more than {dynamo.config.recompile_limit} graphs, for batches of different shapes: "
            "set text_padding=packed or max_length, or compile=off"
        ) from error
