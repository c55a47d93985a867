"""A run: warm up, time windows, split the phases; or a few steps for the memory."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.config import Experiment
from bench.data.manifest import CACHE
from bench.data.pack import load_pictures
from bench.data.stream import Stream
from bench.machine import peak_flops, resolved
from bench.methods import Method, method_named
from bench.profilers.clock import clock
from bench.profilers.device import open_reader, sampled
from bench.profilers.flops import count_flops
from bench.profilers.memory import PeakMemory
from bench.record import Memory, Speed
from bench.seeds import HEAD, STEP, TOWER, seed_for
from bench.step import Step, make_step
from models.image_tower import ImageTower, build_image_tower

MEMORY_STEPS = 4


@dataclass(frozen=True, slots=True)
class Assembled:
    """The parts of a run on its device."""

    tower: ImageTower
    model: nn.Module
    method: Method[Any]
    stream: Stream[Any]
    step: Step[Any]


def untrained_tower(experiment: Experiment) -> ImageTower:
    """Build the tower as every method's training begins with it: from its own generator."""
    return build_image_tower(experiment.tower, experiment.image_size, seed_for(experiment.seed, TOWER))


def load_data(experiment: Experiment, device: torch.device, results: Path) -> Stream[Any]:
    """Load pictures, and turn their captions into what the method reads."""
    targets = method_named(experiment.method).targets(experiment)
    return Stream(experiment, load_pictures("pretrain", results / CACHE), targets, device)


def assemble(stream: Stream[Any]) -> Assembled:
    """Build tower, model and step around the data."""
    experiment, device = stream.experiment, stream.device
    method, tower = method_named(experiment.method), untrained_tower(experiment)
    torch.manual_seed(seed_for(experiment.seed, HEAD))
    model = method.wrap(tower, experiment).to(device)
    torch.manual_seed(seed_for(experiment.seed, STEP))
    step = make_step(experiment, model, method, *resolved(experiment, device))
    return Assembled(tower, model, method, stream, step)


def take_steps(run: Assembled, steps: Iterable[int]) -> list[Tensor]:
    """Take steps at the full learning rate; their losses stay on the device."""
    rate = run.stream.experiment.learning_rate
    return [run.step(run.stream.batch(k), rate) for k in steps]


def measure_speed(experiment: Experiment, device: torch.device, results: Path, round_: int) -> Speed:
    """Time a run: warm-up (kept, not counted), windows, then the phases in a pass of their own."""
    run = assemble(load_data(experiment, device, results))
    with clock(device) as warmup:
        check_finite(take_steps(run, range(experiment.warmup_steps)), 0)

    window_seconds = []
    timed = range(experiment.warmup_steps, experiment.warmup_steps + experiment.windows * experiment.steps_per_window)
    with sampled(partial(open_reader, device)) as samples:
        for first in timed[:: experiment.steps_per_window]:
            with clock(device) as elapsed:
                losses = take_steps(run, range(first, first + experiment.steps_per_window))
            window_seconds.append(elapsed.seconds)
            check_finite(losses, first)

    phases = measure_phases(run, range(timed.stop, timed.stop + 2 * experiment.steps_per_window), device)
    batches = [run.stream.targets.take(run.stream.rows(k)) for k in timed]
    tokens = [batch.tokens_per_caption for batch in batches if batch.tokens_per_caption is not None]
    peak, peak_source = peak_flops(device, resolved(experiment, device)[0])
    return Speed(
        round=round_,
        warmup_seconds=warmup.seconds,
        window_seconds=tuple(window_seconds),
        data_seconds=phases["data"],
        forward_backward_seconds=phases["forward and backward"],
        update_seconds=phases["update"],
        flops=count_flops(experiment, batches),
        tokens_per_caption=sum(tokens) / len(tokens) if tokens else None,
        trained_parameters=sum(parameter.numel() for parameter in run.model.parameters()),
        tower_parameters=sum(parameter.numel() for parameter in run.tower.parameters()),
        peak_flops_per_second=peak,
        peak_source=peak_source,
        targets_seconds=run.stream.targets_seconds,
        num_captions=len(run.stream.pixels),
        utilisation=samples.means(),
        utilisation_failure=samples.failure,
    )


def measure_phases(run: Assembled, steps: range, device: torch.device) -> dict[str, tuple[float, ...]]:
    """Time each step's phases, waiting for the device between them: never in a timed window, which may overlap them."""
    rate = run.stream.experiment.learning_rate
    seconds: dict[str, list[float]] = {"data": [], "forward and backward": [], "update": []}
    for k in steps:
        with clock(device) as data:
            batch = run.stream.batch(k)
        with clock(device) as forward_backward:
            run.step.forward_backward(batch)
        with clock(device) as update:
            run.step.update(rate)
        for name, elapsed in zip(seconds, (data, forward_backward, update), strict=True):
            seconds[name].append(elapsed.seconds)
    return {name: tuple(values) for name, values in seconds.items()}


def measure_memory(experiment: Experiment, device: torch.device, results: Path) -> Memory:
    """Take a few steps in a process that has only loaded the data, and read the peaks.

    The data comes first, for it is the harness's and not the method's: pictures in memory, captions turned into
    targets, and the pages of the batches that the steps will read.
    """
    stream = load_data(experiment, device, results)
    for k in range(MEMORY_STEPS):
        stream.batch(k)
    peak = PeakMemory(device)
    run = assemble(stream)
    check_finite(take_steps(run, range(MEMORY_STEPS)), 0)
    return peak.read(MEMORY_STEPS)


def check_finite(losses: list[Tensor], first: int) -> None:
    """Stop a run whose loss is not a number; read once a window, outside the clock."""
    finite = torch.stack(losses).isfinite()
    if not finite.all():
        step = first + int((~finite).nonzero()[0])
        raise FloatingPointError(f"the loss of step {step} is {losses[step - first].item()}")
