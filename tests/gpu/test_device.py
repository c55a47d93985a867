"""Laws of a device: on the CPU, and on a GPU where they are marked `gpu` (`pytest -m gpu`)."""

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.data.stream import Batch
from bench.environment.machine import default_device
from bench.experiment.config import Experiment
from bench.interfaces.method import METHODS
from bench.profilers.device import make_device_gauges, sample_device_during_block
from bench.train.build import TrainRun, build_train_run, open_batch_stream
from bench.train.state import collect_state, copy_state_to_cpu, load_state
from losses.collectives import SimulatedGroup, draw_local_rows
from losses.contrastive import contrastive_loss
from losses.distillation import cosine_loss
from losses.multilabel import multilabel_loss
from losses.sigmoid import sigmoid_loss
from losses.token_softmax import token_softmax_loss
from tests.compiled import compilation_counters
from tests.processes import in_child
from tests.small import FP16, TWO_BLOCKS, few_images, small
from tests.tensors import tensors_of

CPU, RATE = torch.device("cpu"), 1e-3
NVML_SECONDS = 2.0  # for which the GPU computes, so that NVML's own period is over
PACKED = partial(small, precision="bf16", text_padding="packed_rows", context_length=77)
COMPILED = [*(PACKED(method, compile="on") for method in ("clip", "catlip", "superclip"))]
COMPILED.append(PACKED("catlip", compile="max-autotune"))
PLAIN_ATTENTION = small("catlip", compile="on", precision="bf16", attention="plain")
NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=(pytest.mark.gpu, NEEDS_CUDA))])
def device(request: pytest.FixtureRequest) -> torch.device:
    return CPU if request.param == "cpu" else default_device()


@pytest.fixture(params=[pytest.param("cuda", marks=(pytest.mark.gpu, NEEDS_CUDA))])
def cuda(request: pytest.FixtureRequest) -> torch.device:  # noqa: ARG001 - it carries the marks
    return default_device()


def built(
    device: torch.device, results: Path, method: str = "catlip", **changes: object
) -> TrainRun:
    return build_train_run(open_batch_stream(few_images(method, **changes), device, results))


def drawn(rows: int, columns: int, seed: int) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


UNIT_ROWS, LOGITS = [F.normalize(drawn(6, 16, seed)) for seed in (0, 1)], 4 * drawn(6, 20, 2)
POSITIVES = torch.tensor([0, 0, 2, 5]), torch.tensor([3, 17, 0, 8])  # images and their labels
SCALE, BIAS, WEIGHTS = torch.tensor(7.0), torch.tensor(-3.0), torch.linspace(0.1, 2, 20)
LOSSES: dict[str, tuple[Callable[..., Tensor], Sequence[Tensor]]] = {
    "contrastive": (contrastive_loss, (*UNIT_ROWS, SCALE)),
    "sigmoid": (sigmoid_loss, (*UNIT_ROWS, SCALE, BIAS)),
    "multilabel": (multilabel_loss, (LOGITS, *POSITIVES)),
    "token softmax": (token_softmax_loss, (LOGITS, *POSITIVES, WEIGHTS)),
    "cosine": (cosine_loss, UNIT_ROWS),
}


@contextmanager
def raising_where_the_host_waits(device: torch.device) -> Iterator[None]:
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    yield
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("default")


def test_local_rows_are_those_of_one_draw_without_waiting_for_the_device(
    device: torch.device,
) -> None:
    first, second = (torch.Generator(device).manual_seed(3) for _ in range(2))
    expected = torch.rand(8, 3, device=device, generator=first)[:4]
    options = {"device": device, "generator": second}
    with raising_where_the_host_waits(device):
        rows = draw_local_rows(torch.rand, (4, 3), SimulatedGroup(2), **options)
    assert rows.equal(expected)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradient_are_those_of_float64(
    device: torch.device, name: str, dtype: torch.dtype, tolerance: float
) -> None:
    """Of inputs that both dtypes hold exactly."""
    loss, inputs = LOSSES[name]
    inputs, found = (
        [value.to(dtype) if value.is_floating_point() else value for value in inputs],
        [],
    )
    for where, kind in ((CPU, torch.float64), (device, dtype)):
        leaf, *others = (
            value.to(where, kind) if value.is_floating_point() else value.to(where)
            for value in inputs
        )
        value = loss(leaf.requires_grad_(), *others)
        found.append(
            [
                one.to(CPU, torch.float64)
                for one in (value.detach(), *torch.autograd.grad(value, leaf))
            ]
        )
    for exact, rounded in zip(*found, strict=True):
        assert (rounded - exact).norm() <= tolerance * exact.norm()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_step_that_is_not_finite_changes_nothing(
    device: torch.device, precision: str, results: Path
) -> None:
    run = built(device, results, **TWO_BLOCKS, precision=precision)
    run.step(run.stream.batch(0), RATE)
    before = copy.deepcopy(weights_and_moments(run))
    batch = run.stream.batch(1)
    images = batch.images.clone()
    images[3, 0, 0, 0] = float("nan")
    assert run.step(Batch(images, batch.target), RATE).isnan()
    after = weights_and_moments(run)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert run.step(batch, RATE).isfinite()


def weights_and_moments(run: TrainRun) -> dict[str, Tensor]:
    return {
        name: value
        for name, value in collect_state(run).items()
        if not name.startswith(("scaler", "generator"))
    }


def test_overflow_in_fp16_halves_the_scale(device: torch.device, results: Path) -> None:
    run = built(device, results, **FP16)
    loss = run.step.forward(run.stream.batch(0)).detach()
    before = run.step.scaler.get_scale()
    for parameter in run.model.parameters():
        parameter.grad = torch.full_like(parameter, torch.inf)
    assert torch.equal(run.step.update(loss, RATE), loss)
    assert (run.step.scaler.get_scale(), run.step.overflows.item()) == (before / 2, 1)


def test_restored_training_takes_the_same_step(device: torch.device, results: Path) -> None:
    """The copy goes through the host, as a checkpoint does."""
    run, resumed = (built(device, results, "superclass", **FP16, ema_decay=0.9) for _ in range(2))
    for k in range(2):
        run.step(run.stream.batch(k), RATE)
    load_state(resumed, copy_state_to_cpu(collect_state(run)))
    losses = [one.step(one.stream.batch(2), RATE) for one in (run, resumed)]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=0)
    before, after = weights_and_moments(run), weights_and_moments(resumed)
    for name in before:
        torch.testing.assert_close(after[name], before[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("experiment", [small(method) for method in METHODS], ids=METHODS)
def test_batch_is_that_of_the_cpu(
    cuda: torch.device, experiment: Experiment, results: Path
) -> None:
    batch, expected = (
        open_batch_stream(experiment, where, results).batch(1) for where in (cuda, CPU)
    )
    torch.testing.assert_close(batch.images.cpu(), expected.images, rtol=0, atol=1e-3)
    for found, other in zip(tensors_of(batch.target), tensors_of(expected.target), strict=True):
        torch.testing.assert_close(found.cpu(), other)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize(
    "experiment", [small(method, precision="bf16") for method in METHODS], ids=METHODS
)
def test_five_steps_do_not_wait_for_the_device(
    cuda: torch.device, experiment: Experiment, results: Path
) -> None:
    run = build_train_run(open_batch_stream(experiment, cuda, results))
    run.step(run.stream.batch(0), RATE)  # allocates
    torch.cuda.set_sync_debug_mode("error")
    try:
        losses = [run.step(run.stream.batch(k), RATE) for k in range(1, 6)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.stack(losses).isfinite().all()


@pytest.mark.parametrize(
    "experiment", COMPILED, ids=[f"{one.method}-{one.runtime.compile}" for one in COMPILED]
)
def test_compiled_step_is_not_compiled_again(
    cuda: torch.device, experiment: Experiment, results: Path
) -> None:
    # Where no shapes are checked.
    first, last, breaks = in_child(count_compiled_graphs, cuda, experiment, results)
    assert 0 < last == first
    assert breaks == 0


def test_compiled_plain_attention_is_not_fused_again(cuda: torch.device, results: Path) -> None:
    """Inductor has patterns of attention that it replaces by the fused kernel."""
    assert in_child(count_fused_attention, cuda, results) == 0


def count_fused_attention(device: torch.device, results: Path) -> int:
    run = build_train_run(open_batch_stream(PLAIN_ATTENTION, device, results))
    run.step(run.stream.batch(0), RATE)
    return int(torch._dynamo.utils.counters["inductor"]["fuse_attention"])


def count_compiled_graphs(
    device: torch.device, experiment: Experiment, results: Path
) -> tuple[float, float, float]:
    """Return the graphs after two and after twelve steps, and the graph breaks."""
    run = build_train_run(open_batch_stream(experiment, device, results))
    found = []
    for k in range(12):
        run.step(run.stream.batch(k), RATE)
        found.append(compilation_counters())
    return found[1]["graphs"], found[-1]["graphs"], found[-1]["graph breaks"]


def test_nvml_reads_power_and_the_performance_counters(cuda: torch.device) -> None:
    """GPM counters are those of Hopper and newer. NVML averages over up to a second."""
    values = torch.randn(4096, 4096, device=cuda, dtype=torch.bfloat16)
    with sample_device_during_block(make_device_gauges(cuda), cuda) as readings:
        end = time.monotonic() + NVML_SECONDS
        while time.monotonic() < end:
            values = torch.tanh(values @ values)
            torch.cuda.synchronize(cuda)
    assert readings.figures["GPU busy percent"] > 0
    assert readings.figures["power W"] > 0
    if torch.cuda.get_device_capability(cuda) >= (9, 0):
        assert readings.figures["tensor cores active percent"] > 0, readings.not_measured
