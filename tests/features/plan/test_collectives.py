"""Rings take what a simulated ring takes, and a step sends what the model says."""

import math
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
import torch
import torch.distributed as dist

from bench.data.pack import load_pack_images
from bench.data.targets import CaptionsWithRows
from bench.environment.circumstances import CHECKOUT
from bench.experiment.config import Experiment
from bench.experiment.fields import Sharding, TextPadding
from bench.features.plan.collectives import (
    FP32_BYTES,
    LINK_LATENCY_SECONDS,
    NETWORK_LATENCY_SECONDS,
    StepCollective,
    collective_seconds,
    list_step_collectives,
)
from bench.features.plan.interconnect import Interconnect
from bench.features.plan.workload import (
    count_communicated_parameters,
    count_forward_flops_per_pair,
    mean_tokens_per_caption,
    read_first_caption_batches,
)
from bench.interfaces.extensions import load_features_and_extensions
from bench.interfaces.method import METHODS, NoTarget
from bench.measure.costs import (
    count_mean_step_flops,
)
from bench.train.build import build_train_run, build_untrained_tower, open_batch_stream
from bench.train.distributed import ModelWithLoss, parallelize, world_group_or_none
from losses import collectives
from tests.processes import in_child, in_ranks
from tests.small import small, two_blocks

RANKS, BATCH = 2, 8
CPU = torch.device("cpu")


# Rings


def simulate_ring(count: int, size: float, bandwidth: float, latency: float) -> float:
    """Pass parts of a tensor round a ring until each process has all; return the seconds."""
    known = [{number} for number in range(count)]
    steps = 0
    while any(len(parts) < count for parts in known):
        for number in range(count):
            known[(number + 1) % count].add((number - steps) % count)
        steps += 1
    return steps * (latency + size / count / bandwidth)


@pytest.mark.parametrize(("nodes", "per_node"), [(1, 1), (1, 8), (3, 2), (4, 1)])
def test_collective_takes_the_seconds_of_rings_within_and_between_nodes(
    nodes: int, per_node: int
) -> None:
    """An all-reduce is both ways; between nodes it has the ring's bytes in a tree's steps."""
    size, links = 1e6, Interconnect(per_node, 3e8, 1e8)
    within = simulate_ring(per_node, size, 3e8, LINK_LATENCY_SECONDS)
    ring = within + simulate_ring(nodes, size / per_node, 1e8, NETWORK_LATENCY_SECONDS)
    tree_steps = 2 * math.ceil(math.log2(nodes)) - 2 * (nodes - 1)
    expected = {
        "all-gather": ring,
        "reduce-scatter": ring,
        "all-reduce": 2 * ring + tree_steps * NETWORK_LATENCY_SECONDS,
    }
    for kind, seconds in expected.items():
        collective = StepCollective("x", kind, size)  # type: ignore[arg-type]
        assert collective_seconds(collective, nodes * per_node, links) == pytest.approx(seconds)


# What a step sends

# What FSDP2 calls: before torch 2.13, and from then on.
GATHERS = ("all_gather_into_tensor", "all_gather_single")
SCATTERS = ("reduce_scatter_tensor", "reduce_scatter_single")
SHARDED: list[tuple[str, Sharding]] = [  # two towers, one, and one that is frozen
    ("clip", "fsdp2"),
    ("catlip", "fsdp2"),
    ("distill", "fsdp2_no_reshard"),
]
SENT_CASES = [*((method, "ddp") for method in METHODS), *SHARDED]
SENT = [
    name
    for name in ("all_reduce", "all_gather", "reduce_scatter", *GATHERS, *SCATTERS)
    if hasattr(dist, name)
]


def size_of(name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> int:
    """Bytes of the whole tensor of a call of torch.distributed."""
    if name == "all_reduce":
        return arguments[0].nbytes
    if name in ("all_gather", "reduce_scatter"):
        return sum(part.nbytes for part in arguments[0 if name == "all_gather" else 1])
    place, called = (0, "output_tensor") if name in GATHERS else (1, "input")
    return (named[called] if called in named else arguments[place]).nbytes


def sending(method: str, sharding: Sharding) -> Experiment:
    """An experiment of two blocks where only the loss is looked at."""
    return (two_blocks if sharding == "ddp" else small)(method, batch_size=BATCH, sharding=sharding)


def sent(_rank: int, _ranks: int, results: Path) -> dict[str, Any]:
    """What the second step of each case sends, seen at the functions that send it; and the buckets of DDP."""
    log: list[tuple[str, int]] = []
    functions = [(dist, name, name) for name in SENT]
    functions += [
        (collectives, "_all_gather", GATHERS[0]),
        (collectives, "_reduce_scatter", SCATTERS[0]),
    ]
    for module, attribute, name in functions:
        own = getattr(module, attribute)

        def traced(*arguments: Any, name: str = name, own: Any = own, **named: Any) -> Any:
            kind = "-".join(name.split("_")[:2])
            log.append((kind, size_of(name, arguments, named)))
            return own(*arguments, **named)

        setattr(module, attribute, traced)
    found: dict[str, Any] = {}
    for method, sharding in SENT_CASES:
        run = build_train_run(open_batch_stream(sending(method, sharding), CPU, results))
        for k in range(2):
            log.clear()
            run.step(run.stream.batch(k), 1e-3)
        found[f"{method} {sharding}"] = list(log)
    experiment = small("clip", batch_size=BATCH)
    model = METHODS["clip"].build_model(build_untrained_tower(experiment), experiment)
    spread_out: Any = parallelize(
        ModelWithLoss(model, METHODS["clip"].loss, world_group_or_none()),
        experiment.runtime,
        "fp32",
    )
    stream = open_batch_stream(experiment, CPU, results)
    for k in range(3):
        batch = stream.batch(k)
        spread_out(batch.images, batch.target).backward()
    logged = spread_out._get_ddp_logging_data()
    sizes = logged.get("rebuilt_bucket_sizes") or logged["bucket_sizes"]
    return found | {"buckets": [int(size) for size in sizes.split(",")]}


@pytest.fixture(scope="module")
def of_ranks(results: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    load_pack_images("pretrain", results / "cache")
    return in_ranks(sent, RANKS, tmp_path_factory.mktemp("sent"), results)


def by_kind(sizes: list[tuple[str, float]]) -> dict[str, float]:
    kinds = {kind for kind, _ in sizes}
    return {kind: sum(size for one, size in sizes if one == kind) for kind in kinds}


@pytest.mark.parametrize("method", [*METHODS])
def test_losses_communicate_what_the_model_predicts(
    of_ranks: list[dict[str, Any]], method: str
) -> None:
    """To the byte, beside the gradients, which DDP sends itself."""
    traced = list_step_collectives(
        count_communicated_parameters(sending(method, "ddp")), "ddp", FP32_BYTES, BATCH, RANKS
    )
    expected = by_kind(
        [(each.kind, each.tensor_bytes) for each in traced if each.name != "gradients"]
    )
    calls = sum(each.num_calls for each in traced if each.name != "gradients")
    for found in of_ranks:
        assert by_kind(found[f"{method} ddp"]) == expected
        assert len(found[f"{method} ddp"]) == calls


def test_ddp_sends_each_gradient_once_in_as_many_buckets(of_ranks: list[dict[str, Any]]) -> None:
    weights = count_communicated_parameters(small("clip", batch_size=BATCH))
    gradients = list_step_collectives(weights, "ddp", FP32_BYTES, BATCH, RANKS)[0]
    assert sum(of_ranks[0]["buckets"]) == gradients.tensor_bytes == FP32_BYTES * weights.trained
    assert len(of_ranks[0]["buckets"]) == pytest.approx(gradients.num_calls, abs=1)


@pytest.mark.parametrize(("method", "sharding"), SHARDED)
def test_fsdp2_gathers_blocks_twice_and_once_without_resharding(
    of_ranks: list[dict[str, Any]], method: str, sharding: Sharding
) -> None:
    """Up to the padding of what two processes cannot share evenly, and the norm, which DTensor sends itself.

    Before the student's first block it fetches the teacher's last once more, in vain.
    """
    traced = list_step_collectives(
        count_communicated_parameters(sending(method, sharding)), sharding, FP32_BYTES, BATCH, RANKS
    )
    expected, found = (
        by_kind([(each.kind, each.tensor_bytes) for each in traced]),
        by_kind(of_ranks[0][f"{method} {sharding}"]),
    )
    for kind in ("all-gather", "reduce-scatter"):
        assert found[kind] == pytest.approx(
            expected[kind], rel=0.1 if method == "distill" else 0.02
        )


@pytest.mark.parametrize("method", [*METHODS])
def test_workload_equals_the_built_model(method: str, results: Path) -> None:
    """FLOPs of the forward are counted whole, but for the products of images with captions."""
    experiment = two_blocks(method)
    model, weights = (
        build_train_run(open_batch_stream(experiment, CPU, results)).model,
        count_communicated_parameters(experiment),
    )
    parameters = list(model.parameters())
    assert weights.trained + weights.frozen == sum(one.numel() for one in parameters)
    assert weights.num_scalars == sum(one.ndim == 0 for one in parameters)
    assert 0 < weights.trained_in_blocks < weights.trained + weights.frozen
    batch = experiment.training.batch_size
    target = METHODS[method].make_target_function(experiment)(
        CaptionsWithRows.from_texts(["a dog"] * batch)
    )
    whole = count_mean_step_flops(experiment, [target])
    captions = [target.captions] if METHODS[method].runs_text_model_on_captions(experiment) else []
    work = count_forward_flops_per_pair(experiment, captions)
    products = 2 * batch * batch * weights.feature_width
    assert whole.forward == batch * (work.forward + work.teacher) + products


def test_planned_flops_are_those_of_both_views() -> None:
    in_child(compare_flops_of_both_views)


def compare_flops_of_both_views() -> None:
    load_features_and_extensions([str(CHECKOUT / "docs" / "extensions" / "simclr.py")])
    experiment = small("simclr")
    size = experiment.training.batch_size
    similarity = 2 * (2 * size) ** 2 * 128
    planned = count_forward_flops_per_pair(experiment, [])
    counted = count_mean_step_flops(experiment, [NoTarget()])
    assert counted.forward == size * planned.forward + similarity


@pytest.mark.parametrize(
    ("padding", "lengths"),
    [("packed_rows", "web"), pytest.param("length_groups", "own", marks=pytest.mark.exhaustive)],
)
def test_plan_computes_the_tokens_that_measure_counts(
    lengths: str, padding: TextPadding, results: Path
) -> None:
    """On average over batches, for the steps that are timed are others than the first ones."""
    experiment = two_blocks(
        "clip", batch_size=64, context_length=77, pack_caption_lengths=lengths, text_padding=padding
    )
    stream = open_batch_stream(experiment, CPU, results)
    batches = [stream.target(k) for k in range(200, 230)]
    counted = [batch.tokens_per_caption for batch in batches]
    planned = read_first_caption_batches(experiment, results)
    error = math.sqrt(1 / len(counted) + 1 / len(planned)) * stdev(counted)
    assert fmean(counted) == pytest.approx(mean_tokens_per_caption(planned), abs=4 * error)
    text = count_mean_step_flops(experiment, batches).text_forward / experiment.training.batch_size
    forward, without = (
        count_forward_flops_per_pair(experiment, captions).forward for captions in (planned, [])
    )
    assert forward - without == pytest.approx(text, rel=max(0.05, 6 * error / fmean(counted)))
