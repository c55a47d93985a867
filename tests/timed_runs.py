"""Records of timed runs, made up."""

import math

from bench.experiment.config import Experiment
from bench.records.record import Record, StepFlops
from tests import speeds
from tests.reports.conftest import COMPARISON, HERE

FLOPS = 4_000_000_000


def speed(experiment: Experiment, log: float, flops_log: float, round_: int) -> Record:
    """A run whose forward and backward make e^log images per second, a step three quarters of it."""
    size = experiment.training.batch_size
    seconds, step = size / math.exp(log), round(size * FLOPS * math.exp(-flops_log))
    measured = speeds.speed(
        round=round_,
        window_seconds=(experiment.timing.steps_per_window * seconds / 0.75,)
        * experiment.timing.timed_windows,
        phase_seconds={
            "data": (seconds,),
            "image forward": (seconds / 3,),
            "backward": (2 * seconds / 3,),
        },
        flops=StepFlops(image_forward=FLOPS, text_forward=0, forward=FLOPS, step=step),
        peak_flops_per_second=1e12,
        peak_source="made up",
    )
    return Record(
        comparison=COMPARISON, experiment=experiment, circumstances=HERE, measured=measured
    )
