"""What the verbs of steps expect on a GPU lies between a plain roofline and three times as much, on large cards."""

import shlex
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from bench.cli.main import parse
from bench.cli.options import EstimatedCommand, experiment_from
from bench.cli.verbs import VERBS
from bench.environment.gpu_specs import GpuSpec
from bench.experiment.config import Experiment
from bench.experiment.experiments import EXPERIMENTS
from bench.features.gpu.verb import known_steps
from bench.orchestration.pace import GpuPace
from tests.orchestration.test_gpu_pace import FIRST_COMPILED, LARGE, START, run_seconds, step_seconds

PRICED = ("measure", "doctor")  # verbs; the test of a feature prices its own


def commands() -> Iterator[tuple[str, str, EstimatedCommand]]:
    for step in known_steps("cuda"):
        values = defaultdict(str, results="results", folder="results/x", gpus="2", batch="512")
        words = [word for one in shlex.split(step.command) if (word := one.format_map(values))]
        if "bench" in words and (verb := words[words.index("bench") + 1]) in PRICED:
            yield step.name, verb, parse(words[words.index("bench") + 1 :])


def memory_seconds(experiment: Experiment, gpu: GpuSpec) -> float:
    return START + (0.0 if experiment.runtime.compile == "off" else FIRST_COMPILED) + 5 * step_seconds(experiment, gpu)


def plain_seconds(verb: str, command: Any, gpu: GpuSpec) -> float:
    """Sum the runs of a command line, one by one."""
    seconds = START
    if verb == "measure":
        arms = [experiment_from(name, command.settings, command.data) for name in command.names]
        seconds += sum(memory_seconds(arm, gpu) for arm in arms) * (2 if command.trace else 1)
        for _ in range(command.rounds or 5):
            seconds += sum(run_seconds(arm, gpu) for arm in arms)
    else:
        tried = EXPERIMENTS["clip-tiny"]
        seconds += memory_seconds(tried, gpu) + 2 * run_seconds(tried, gpu)
    return seconds


@pytest.mark.parametrize("card", LARGE)
def test_expected_seconds_of_every_step_cover_a_plain_roofline_and_are_at_most_three_times_as_much(card: str) -> None:
    gpu, pace = LARGE[card], GpuPace(gpu=LARGE[card])
    ratios = {
        (name, verb): command.expected_seconds(pace) / plain_seconds(verb, command, gpu)
        for name, verb, command in commands()
    }
    assert {verb for _, verb in ratios} == {verb for verb in PRICED if verb in VERBS}
    assert min(ratios.values()) >= 1, ratios
    assert max(ratios.values()) <= 3, ratios
