"""The pace of an experiment on this machine, from a few steps of a small batch."""

import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from bench.console.progress import Progress
from bench.data.manifest import CACHE
from bench.experiment.config import Experiment, change
from bench.experiment.experiments import SCALES
from bench.experiment.fields import PACK_DATA, ImageSettings, InputSettings
from bench.measure.throughput import images_per_second
from bench.orchestration.comparison import Comparison
from bench.orchestration.pace import START_SECONDS, TWO_CORES, Pace
from bench.orchestration.requests import SpeedRequest
from bench.orchestration.runner import Runner
from bench.records.record import Record, Speed, read_record

TRIAL_BATCHES, TRIAL_STEPS = (2, 32), 1
TRIAL_SECONDS = 15.0  # expected; those of ViT-B/16 on two cores
MIN_STEP_SECONDS = 0.5  # a shorter step is dominated by its update: a larger batch is timed


def has_tiny_tower(image: ImageSettings) -> bool:
    """Return whether an experiment has the tiny tower, of which `TWO_CORES` is the pace."""
    return image.tower == SCALES["tiny"].image.tower


def measure_pace(experiment: Experiment, results: Path, cores: int) -> Pace:
    """Time a few steps of a small batch on a CPU, in a process of its own; return the pace that they show.

    Where the steps are short, a larger batch is timed. It is the pace of two cores at the tiny scale if the run fails:
    the comparison itself then says why.
    """
    pace = TWO_CORES
    for batch_size in sorted({min(size, experiment.training.batch_size) for size in TRIAL_BATCHES}):
        timed = change(experiment, warmup_steps=1, windows=1, steps_per_window=TRIAL_STEPS)
        small = change(timed, batch_size=batch_size, image_sizes=(), accumulation=1)
        with tempfile.TemporaryDirectory() as folder:
            link_cache(Path(folder), results, experiment.input)
            trial = Comparison(
                "trial", Path(folder), [small], cores, on_gpu=False, runner=Runner(Progress(TRIAL_SECONDS))
            )
            label = f"trial of {1 + 2 * TRIAL_STEPS} steps of {experiment.name} at batch {batch_size}"
            job = trial.new_job(SpeedRequest, small, label, TRIAL_SECONDS)
            start = time.perf_counter()
            trial.run_round([job])
            if not job.is_done:
                return TWO_CORES
            pace = pace_from_record(read_record(job.request.paths[0]), time.perf_counter() - start)
        if pace.step_seconds(small) > MIN_STEP_SECONDS:
            break
    return pace


def recorded_pace(records: Iterable[Record], experiment: Experiment) -> Pace | None:
    """Return the pace of an experiment's last speed run among records; None without one."""
    runs = [one for one in records if one.experiment == experiment and isinstance(one.measured, Speed)]
    return pace_from_record(runs[-1]) if runs else None


def link_cache(folder: Path, results: Path, inputs: InputSettings) -> None:
    """Let a trial in a folder use the index of an experiment's shards in the cache of the results."""
    if inputs.data != PACK_DATA:
        cache = results.resolve() / CACHE
        cache.mkdir(parents=True, exist_ok=True)
        (folder / CACHE).symlink_to(cache)


def pace_from_record(record: Record, seconds: float | None = None) -> Pace:
    """Return the pace of a speed run that took so many seconds from the start of its process to its end.

    Where these are not known, its start took as long as on two cores.
    """
    experiment, speed = record.experiment, record.measured
    assert experiment is not None
    assert isinstance(speed, Speed)
    step = experiment.training.batch_size / images_per_second(experiment, speed)
    update = min(step, median(speed.phase_seconds.get("optimizer") or [0.0]))
    timed = speed.warmup_seconds + sum(speed.window_seconds) + sum(map(sum, speed.phase_seconds.values()))
    start = START_SECONDS if seconds is None else max(0.0, seconds - timed)
    heating = max(0.0, speed.warmup_seconds - experiment.timing.warmup_steps * step)
    on_gpu = record.circumstances.device == "cuda"
    return Pace(start, (step - update) / experiment.training.batch_size, update, heating, on_gpu=on_gpu)
