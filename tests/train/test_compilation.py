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

CPU, STEPS = torch.device("cpu"), 2
# Two towers; one with the mean of all tokens and captions; one with a teacher.
COMPILED_METHODS = ("clip", "superclip", "distill")
GROUPS = ("ddp", "fsdp2")  # of CLIP
GRAPHS = {("clip", "alone"): 5, ("superclip", "alone"): 4, ("distill", "alone"): 6}
# DDP needs no other graphs than a process alone. FSDP2 gives blocks another class, and no embedding.
GRAPHS |= {("clip", "ddp"): 0, ("clip", "fsdp2"): 4}
# All blocks of timm's are equal.
GRAPHS |= {("clip", "otherwise"): 5, ("catlip", "otherwise"): 1, ("superclass", "otherwise"): 2}
OTHERWISE: dict[str, dict[str, object]] = {
    "clip": {"activation_checkpointing": True},
    "catlip": {
        "tower": "vit_tiny_patch16_224",
        "precision": "bf16",
        "compile": "max-autotune",
    },
    "superclass": {"accumulation": 2, "ema_decay": 0.5, "augmentation": "range"},
}
Found = dict[tuple[str, str], dict[str, Any]]


def opened(name: str, results: Path, **changes: object) -> BatchStream[Any]:
    fewer = {"batch_size": 8, "text_padding": "packed", "subset": "random:64", "compile": "on"}
    return open_batch_stream(small(name, **fewer | changes), CPU, results)


def work(results: Path, folder: Path) -> Found:
    """Return the losses and graphs of every method, of some in a group of one process, and of other cases."""
    torch.set_num_threads(1)
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo"}
    found = {}
    with compiled_by("eager"):
        for name in COMPILED_METHODS:
            torch._dynamo.reset()
            stream = opened(name, results)
            eager = losses_of(build_train_run(stream, eager_without_group=True))
            found[name, "alone"] = compiled_steps(stream) | {"eager": eager}
            if name == "clip":
                dist.init_process_group(
                    "gloo", init_method=f"file://{folder}/{name}", rank=0, world_size=1
                )
                for group in GROUPS:
                    stream.experiment = change(stream.experiment, sharding=group)
                    found[name, group] = compiled_steps(stream) | {"eager": eager}
                dist.destroy_process_group()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(step, "GRAPHS_PER_IMAGE_SIZE", 1)
            stream = opened("clip", results, text_padding="bucketed")
            with pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit) as error:
                compiled_steps(stream)
    found["limit", ""] = {"error": str(error.value)}
    with compiled_by("aot_eager"):
        for name, changes in OTHERWISE.items():
            torch._dynamo.reset()
            stream = opened(name, results, **changes)
            eager = losses_of(build_train_run(stream, eager_without_group=True))
            found[name, "otherwise"] = compiled_steps(stream) | {"eager": eager}
    torch._dynamo.reset()
    found["distill", "shapes"] = {"shapes": compiled_shapes(results)}
    return found


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
        losses_of(build_train_run(opened("distill", results, image_size=96, teacher="ViT-S-32")))
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
    } | {"phases": set(phases.seconds)}


@pytest.fixture(scope="module")
def found(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What a process found whose shapes are not checked."""
    return in_child(work, results, tmp_path_factory.mktemp("group"))


@pytest.mark.parametrize("case", GRAPHS, ids=" ".join)
def test_compiled_step_has_the_losses_of_the_eager_one_and_few_graphs(
    found: Found, case: tuple[str, str]
) -> None:
    """The equal blocks of a tower share a graph, and later steps need no other.

    The last block, which computes one token unless all are pooled, has its own, as has the embedding of an image tower
    of open_clip.
    """
    assert found[case]["losses"] == pytest.approx(found[case]["eager"], rel=1e-5)
    assert found[case]["graphs"] == GRAPHS[case]
    assert (found[case]["later"], found[case]["breaks"]) == (0, 0)


def test_blocks_of_two_towers_are_compiled_for_their_own_shapes(found: Found) -> None:
    """The teacher's images have other numbers of tokens than the student's."""
    shapes = found["distill", "shapes"]["shapes"]
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
    assert found["clip", "alone"]["phases"] == phases


def test_too_many_graphs_are_an_error(found: Found) -> None:
    assert "recompile_limit" in found["limit", ""]["error"]
