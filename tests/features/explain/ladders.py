"""Ladders and the records that their runs leave, made up."""

import random
from collections.abc import Callable, Sequence

from bench.experiment.config import Experiment
from bench.experiment.experiments import EXPERIMENTS
from bench.experiment.settings import with_settings
from bench.features.explain.factors import select_factors
from bench.features.explain.ladder import Coordinates, Ladder, build_ladder, stages_between
from bench.records.record import Record
from tests.reports.conftest import COMPARISON, HERE
from tests.timed_runs import speed

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
