"""Ladders and the records that their runs leave, made up."""

import math
import random
from collections.abc import Callable, Sequence

from bench.config import Experiment
from bench.experiments import EXPERIMENTS
from bench.explain.factors import select_factors
from bench.ladder import Coordinates, Ladder, build_ladder, stages_between
from bench.record import Flops, Record
from bench.settings import with_settings
from tests.reports.conftest import COMPARISON, HERE
from tests.speeds import speed as plain_speed

FLOPS = 4_000_000_000
Log = Callable[[Coordinates], float]


def ladder_of(
    first: str = "catlip-tiny",
    against: str = "clip-tiny",
    chosen: Sequence[str] = (),
    *,
    settings: Sequence[str] = (),
    whole: bool = False,
) -> tuple[Ladder, list[Experiment]]:
    """`settings` are of the experiment where it begins."""
    ends = with_settings(EXPERIMENTS[against], settings), EXPERIMENTS[first]
    factors, _ = select_factors(*ends, chosen, on_gpu=False)
    return build_ladder(stages_between(*ends, factors=factors), factors, factorial=whole, pace=ends[1])


def speed(experiment: Experiment, log: float, flops_log: float, round_: int) -> Record:
    """A run whose forward and backward make e^log images per second, a step three quarters of it."""
    size = experiment.training.batch_size
    seconds = size / math.exp(log)
    measured = plain_speed(
        round=round_,
        window_seconds=(experiment.timing.steps_per_window * seconds / 0.75,) * experiment.timing.windows,
        phase_seconds={"data": (seconds,), "image forward": (seconds / 3,), "backward": (2 * seconds / 3,)},
        flops=Flops(
            image_forward=FLOPS, text_forward=0, forward=FLOPS, step=round(size * FLOPS * math.exp(-flops_log))
        ),
        peak_flops_per_second=1e12,
        peak_source="made up",
    )
    return Record(comparison=COMPARISON, experiment=experiment, circumstances=HERE, measured=measured)


def measured(
    ladder: Ladder,
    configurations: Sequence[Experiment],
    log: Log,
    *,
    rounds: int = 10,
    spread: float = 0.0,
    apart: float = 0.0,
    flops: Log = lambda _: 0.0,
) -> list[Record]:
    """Records of all runs: each configuration as fast as `log` says, its end `apart` where the ends run alone."""
    chance = random.Random(0)
    found = [Record(comparison=COMPARISON, experiment=configurations[0], circumstances=HERE, measured=ladder)]
    ends = {ladder.chain[0], ladder.chain[-1]}
    for round_ in range(rounds):
        luck = chance.gauss(0, 5 * spread)
        for configuration, experiment in zip(ladder.configurations, configurations, strict=True):
            at = configuration.coordinates
            if round_ % 2 and at not in ends:
                continue
            more = apart if round_ % 2 and at == ladder.chain[-1] else 0.0
            found.append(speed(experiment, log(at) + luck + chance.gauss(0, spread) + more, flops(at), round_))
    return found
