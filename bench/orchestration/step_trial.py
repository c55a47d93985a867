"""The pace of an experiment on this machine, from a few steps of a small batch."""

import tempfile
import time
from pathlib import Path
from statistics import median

from msgspec.structs import replace

from bench.config import Experiment
from bench.console.progress import Progress
from bench.data.manifest import CACHE
from bench.experiments import SCALES
from bench.measure.throughput import images_per_second
from bench.orchestration.comparison import Comparison
from bench.orchestration.pace import TWO_CORES, Pace
from bench.orchestration.requests import SpeedRequest
from bench.orchestration.runner import Runner
from bench.record import Record, Speed, read_record

TRIAL_BATCH, TRIAL_STEPS, TRIAL_SECONDS = 2, 1, 15.0  # the seconds are those of ViT-B/16 on two cores


def is_pace_known(experiment: Experiment) -> bool:
    """Return whether `TWO_CORES` is the pace of an experiment: it is that of the tiny tower."""
    return experiment.tower == SCALES["tiny"].tower


def try_steps(experiment: Experiment, results: Path, cores: int) -> Pace:
    """Time a few steps of a small batch on a CPU, in a process of its own; return the pace that they show.

    It is the pace of two cores at the tiny scale if the run fails: the comparison itself then says why.
    """
    batch_size = min(TRIAL_BATCH, experiment.batch_size)
    steps = dict.fromkeys(("warmup_steps", "windows", "accumulation"), 1) | {"steps_per_window": TRIAL_STEPS}
    small = replace(experiment, batch_size=batch_size, image_sizes=(), **steps)
    with tempfile.TemporaryDirectory() as folder:
        link_cache(Path(folder), results)
        trial = Comparison("trial", Path(folder), [small], cores, on_gpu=False, runner=Runner(Progress(TRIAL_SECONDS)))
        label = f"trial of {1 + 2 * TRIAL_STEPS} steps of {experiment.name} at batch {batch_size}"
        job = trial.new_job(SpeedRequest, small, label, TRIAL_SECONDS)
        start = time.perf_counter()
        trial.run_round([job])
        if not job.is_done:
            return TWO_CORES
        return pace_of(read_record(job.request.paths[0]), time.perf_counter() - start)


def link_cache(folder: Path, results: Path) -> None:
    """Let trials in a folder read and leave the index of shards in the cache of the results."""
    cache = results.resolve() / CACHE
    cache.mkdir(parents=True, exist_ok=True)
    (folder / CACHE).symlink_to(cache)


def pace_of(record: Record, seconds: float) -> Pace:
    """Return the pace of a speed run that took so many seconds from the start of its process to its end."""
    experiment, speed = record.experiment, record.measured
    assert experiment is not None
    assert isinstance(speed, Speed)
    step = experiment.batch_size / images_per_second(experiment, speed)
    update = min(step, median(speed.phase_seconds.get("optimizer") or [0.0]))
    timed = speed.warmup_seconds + sum(speed.window_seconds) + sum(map(sum, speed.phase_seconds.values()))
    heating = max(0.0, speed.warmup_seconds - experiment.warmup_steps * step)
    return Pace(max(0.0, seconds - timed), (step - update) / experiment.batch_size, update, heating)
