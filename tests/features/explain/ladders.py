"""Ladders and the records that their runs leave, made up."""

import random
from collections.abc import Sequence

from bench.experiment.config import Experiment
from bench.experiment.experiments import EXPERIMENTS
from bench.experiment.settings import renamed_with_settings
from bench.features.explain.ladder import ExperimentLadder, plan_ladder
from bench.records.record import Record
from tests.reports.conftest import COMPARISON, HERE
from tests.timed_runs import speed


def ladder_of(
    named: str = "catlip-tiny",
    baseline: str = "clip-tiny",
    chosen: Sequence[str] = (),
    *,
    settings: Sequence[str] = (),
) -> tuple[ExperimentLadder, list[Experiment]]:
    """Return the ladder between two experiments; `settings` are of the experiment where it begins."""
    return plan_ladder(
        renamed_with_settings(EXPERIMENTS[baseline], settings), EXPERIMENTS[named], chosen
    )


def causes_of(ladder: ExperimentLadder) -> tuple[str, ...]:
    """Return the causes in the order of the ladder."""
    return tuple(rung.cause for rung in ladder.rungs[1:])


def measured(
    ladder: ExperimentLadder,
    experiments: Sequence[Experiment],
    logs: Sequence[float],
    *,
    rounds: int = 10,
    spread: float = 0.0,
    flops: Sequence[float] | None = None,
) -> list[Record]:
    """Records of all runs: each rung as fast as `logs` says, with luck that a round shares."""
    chance = random.Random(0)
    records = [
        Record(
            comparison=COMPARISON, experiment=experiments[0], circumstances=HERE, measured=ladder
        )
    ]
    flops = flops or [0.0] * len(experiments)
    for round_ in range(rounds):
        luck = chance.gauss(0, 5 * spread)
        for experiment, log, log_flops in zip(experiments, logs, flops, strict=True):
            records.append(
                speed(experiment, log + luck + chance.gauss(0, spread), log_flops, round_)
            )
    return records
