"""A compiled step has few graphs, none of them broken, and the losses of the uncompiled step, alone and in a group.

Dynamo and AOTAutograd trace the blocks; the graphs are run by torch itself, which needs no compiler.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo
import torch._inductor.config
import torch.distributed as dist

from bench.data.stream import BatchStream
from bench.experiment.config import change
from bench.measure.speed import time_step_phases
from bench.train import step
from bench.train.build import (
    TrainRun,
    build_train_run,
    open_batch_stream,
    take_steps_at_full_learning_rate,
)
from tests.compiled import compilation_counters
from tests.processes import in_child, in_ranks
from tests.small import small

pytestmark = pytest.mark.slow

CPU, STEPS = torch.device("cpu"), 2
# DDP needs no other graphs than a process alone. FSDP2 gives blocks another class, and no embedding.
GRAPHS_OF_CLIP = {"alone": 5, "ddp": 0, "fsdp2": 4}
# The mean of all tokens and captions; a teacher; recomputed activations; timm's blocks, which are all equal; parts of
# a batch.
OTHERWISE: dict[str, tuple[int, dict[str, object]]] = {
    "superclip": (4, {}),
    "distill": (6, {}),
    "clip": (5, {"activation_checkpointing": True}),
    "catlip": (
        1,
        {"tower": "vit_tiny_patch16_224", "precision": "bf16", "compile": "max-autotune"},
    ),
    "superclass": (2, {"micro_batches": 2, "ema_decay": 0.5, "augmentation": "range"}),
}
Found = dict[str, dict[str, Any]]


def opened(name: str, results: Path, **changes: object) -> BatchStream[Any]:
    fewer = {"batch_size": 8, "text_padding": "packed_rows", "subset": "random:64", "compile": "on"}
    return open_batch_stream(small(name, **fewer | changes), CPU, results)


def work(results: Path, folder: Path) -> Found:
    """Return the losses and graphs of CLIP alone and in a group of one process, and the error of too many graphs."""
    torch.set_num_threads(1)
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo"}
    found = {}
    with compiled_by("eager"):
        stream = opened("clip", results)
        eager = losses_of(build_train_run(stream, eager_without_group=True))
        found["alone"] = compiled_steps(stream) | {"eager": eager}
        dist.init_process_group("gloo", init_method=f"file://{folder}/x", rank=0, world_size=1)
        for group in ("ddp", "fsdp2"):
            stream.experiment = change(stream.experiment, sharding=group)
            found[group] = compiled_steps(stream) | {"eager": eager}
        dist.destroy_process_group()
        torch._dynamo.reset()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(step, "GRAPHS_PER_IMAGE_SIZE", 1)
            stream = opened("clip", results, text_padding="length_groups")
            with pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit) as error:
                compiled_steps(stream)
    return found | {"limit": {"error": str(error.value)}}


def work_otherwise(results: Path) -> Found:
    """Return the losses and graphs of other methods and settings, and the shapes that a teacher's graphs take."""
    torch.set_num_threads(1)
    found = {}
    with compiled_by("aot_eager"):
        for name, (_, changes) in OTHERWISE.items():
            torch._dynamo.reset()
            stream = opened(name, results, **changes)
            eager = losses_of(build_train_run(stream, eager_without_group=True))
            found[name] = compiled_steps(stream) | {"eager": eager}
    torch._dynamo.reset()
    return found | {"shapes": {"distill": compiled_shapes(results)}}


def compiled_shapes(results: Path) -> list[list[int | str]]:
    """Return the shapes of the first tensor that each graph takes; what is a symbol has a name."""
    shapes = list[list[int | str]]()

    def keep(graph: torch.fx.GraphModule, _inputs: object) -> torch.fx.GraphModule:
        inputs = (
            node.meta["example_value"] for node in graph.graph.nodes if node.op == "placeholder"
        )
        tokens = next(value for value in inputs if isinstance(value, torch.Tensor))
        shapes.append(
            [length if isinstance(length, int) else str(length) for length in tokens.shape[1:]]
        )
        return graph

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", partial(torch.compile, backend=keep))
        losses_of(
            build_train_run(
                opened("distill", results, image_size=96, teacher_tower="random:ViT-S-32")
            )
        )
    return shapes


@contextmanager
def compiled_by(backend: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", partial(torch.compile, backend=backend))
        yield


def losses_of(run: TrainRun) -> list[float]:
    return torch.stack(take_steps_at_full_learning_rate(run, range(STEPS))).tolist()


def compiled_steps(stream: BatchStream[Any]) -> dict[str, Any]:
    """Return the losses of a few steps, the new graphs in them and in later phases, and the graph breaks."""
    torch._dynamo.utils.counters.clear()
    run = build_train_run(stream)
    losses, graphs = losses_of(run), compilation_counters()["graphs"]
    phases = time_step_phases(run, range(STEPS, 2 * STEPS))
    last = compilation_counters()
    return {
        "losses": losses,
        "graphs": graphs,
        "later": last["graphs"] - graphs,
        "breaks": last["graph breaks"],
    } | {"phases": set(phases[0].phase_seconds)}


@pytest.fixture(scope="module")
def found(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What a process found whose shapes are not checked."""
    return in_child(work, results, tmp_path_factory.mktemp("group"))


@pytest.fixture(scope="module")
def found_otherwise(results: Path) -> Found:
    return in_child(work_otherwise, results)


def require_graphs(case: dict[str, Any], graphs: int) -> None:
    """Require the losses of the eager step, and so many graphs, none of them later or broken."""
    assert case["losses"] == pytest.approx(case["eager"], rel=1e-5)
    assert case["graphs"] == graphs
    assert (case["later"], case["breaks"]) == (0, 0)


@pytest.mark.parametrize("group", GRAPHS_OF_CLIP)
def test_compiled_step_has_the_losses_of_the_eager_one_and_few_graphs(
    found: Found, group: str
) -> None:
    """The equal blocks of a tower share a graph, and later steps need no other.

    The last block, which computes one token unless all are pooled, has its own, as has the embedding of an image tower
    of open_clip.
    """
    require_graphs(found[group], GRAPHS_OF_CLIP[group])


@pytest.mark.parametrize("method", OTHERWISE)
def test_steps_of_other_methods_and_settings_have_few_graphs_too(
    found_otherwise: Found, method: str
) -> None:
    require_graphs(found_otherwise[method], OTHERWISE[method][0])


def test_blocks_of_two_towers_are_compiled_for_their_own_shapes(found_otherwise: Found) -> None:
    """The teacher's images have other numbers of tokens than the student's."""
    shapes = found_otherwise["shapes"]["distill"]
    assert len(shapes) == 6  # embedding, blocks and last block of each
    assert all(isinstance(length, int) for shape in shapes for length in shape)


def compiled_under_ddp(
    _rank: int, _ranks: int, results: Path
) -> tuple[list[int], list[float], list[float]]:
    """Return the calls in every graph that the backend is given, and the losses of compiled and eager steps."""
    sizes = list[int]()

    def count(graph: torch.fx.GraphModule, _inputs: object) -> torch.fx.GraphModule:
        sizes.append(sum(node.op.startswith("call_") for node in graph.graph.nodes))
        return graph

    stream = opened("clip", results, compile="off")
    eager = losses_of(build_train_run(stream))
    stream.experiment = change(stream.experiment, compile="on")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", partial(torch.compile, backend=count))
        compiled = losses_of(build_train_run(stream))
    return sizes, compiled, eager


def test_ddp_splits_no_graph_of_a_block(results: Path, tmp_path: Path) -> None:
    """By default dynamo splits them at the borders of DDP's buckets, and no other test sees it: graphs are reused."""
    for sizes, compiled, eager in in_ranks(compiled_under_ddp, 2, tmp_path, results):
        # Embedding, block and last block of the image tower, block and last block of the other.
        assert len(sizes) == 5
        assert {26, 29} <= {*sizes}  # whole blocks of image and text tower
        assert compiled == pytest.approx(eager, rel=1e-5)


def test_phases_of_a_compiled_step_are_those_of_an_eager_one(found: Found) -> None:
    phases = {"data", "image forward", "text forward", "head and loss", "backward", "optimizer"}
    assert found["alone"]["phases"] == phases


def test_too_many_graphs_are_an_error(found: Found) -> None:
    assert "recompile_limit" in found["limit"]["error"]
