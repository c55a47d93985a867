"""The checkpoint manager, which saves and resumes a training."""

import math
import sys
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file

from bench.console.console import StopRequest, log
from bench.data.samples import training_files_digest
from bench.data.stream import DecodeStats
from bench.environment.circumstances import describe_current_commit
from bench.train.build import TrainRun
from bench.train.checkpoints import (
    TENSORS,
    CheckpointConfig,
    CheckpointMetadata,
    read_checkpoint_metadata,
    write_checkpoint_and_remove_old,
)
from bench.train.distributed import (
    all_reduce_max,
    barrier,
    world_group_or_none,
    world_rank,
    world_size,
)
from bench.train.state import (
    NamedTensors,
    ScheduleSegment,
    TrainProgress,
    collect_state,
    copy_state_to_cpu,
    gather_on_rank0,
    load_state,
    shard_like,
)
from models.checkpoint import save_tensors, select_and_strip_prefix

MAX_CHECK_SECONDS = 5.0  # maximum interval between checks of several processes: torchrun kills 30 s after its signal


class CheckpointManager:
    """Saves a training's checkpoints at intervals, before each cool-down, and on a signal to end.

    Several processes save and end together, on a signal to any of them and by rank 0's clock. Rank 0 copies the state
    to the host, and writes it in a thread while the training goes on. At most one checkpoint is being written: the next
    save waits for it, as does the end of the training.
    """

    def __init__(self, config: CheckpointConfig, comparison: str, stop: StopRequest) -> None:
        self.config = config
        self.stop = stop
        self._comparison = comparison
        self._commit = describe_current_commit()
        self._data_digest = ""
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint-writer")
        self._pending: Future[None] | None = None  # the checkpoint that is being written
        self._reset_counters(0)

    def restore(self, run: TrainRun) -> TrainProgress:
        """Load the checkpoint to resume from into a run, if there is one, and return the progress so far.

        From then on a signal ends the training only after a step, when `save_if_due_and_count_steps_to_next` has saved.
        """
        progress = TrainProgress()
        if world_rank() == 0:
            experiment = run.stream.experiment
            self._data_digest = training_files_digest(experiment.input, experiment.targets)
        if self.config.resume_from:
            path = Path(self.config.resume_from)
            saved = read_checkpoint_metadata(path)
            tensors = load_file(path / TENSORS)  # mapped, and copied by tensor
            load_state(run, tensors)
            run.step.overflows.fill_(saved.overflows)
            run.stream.stats = DecodeStats(saved.decoded, Counter(saved.unusable))
            state = collect_state(run)
            trunk: NamedTensors = {}
            for name, value in select_and_strip_prefix("trunk.", tensors).items():
                # Also the state of a GPU's generator, which this run lacks on a CPU.
                trunk[name] = shard_like(value, state.get(name, value))
            progress = TrainProgress(
                tensors["losses"].tolist(), copy_state_to_cpu(trunk), saved.seconds
            )
        self._reset_counters(len(progress.losses))
        self.stop.can_save = True
        return progress

    def _reset_counters(self, steps_taken: int) -> None:
        """Count steps and time from this step and this moment on."""
        now = time.monotonic()
        self._first_step = steps_taken
        self._steps_saved = steps_taken
        self._started = now
        self._last_save = now

    def save_if_due_and_count_steps_to_next(
        self, run: TrainRun, progress: TrainProgress, segment: ScheduleSegment
    ) -> int:
        """Save a checkpoint if one is due, and return the maximum number of steps until the next call.

        It is called before a step of `segment`. Several processes notice a signal to end only here. SystemExit after a
        signal to end, when the checkpoint is written.
        """
        taken = len(progress.losses)
        now = time.monotonic()
        new_steps = taken - self._first_step
        seconds_per_step = (now - self._started) / new_steps if new_steps else math.inf
        starts_cooldown = not segment.is_before_cooldowns and taken == segment.first_step
        seconds_since_save = now - self._last_save
        is_due = world_rank() == 0 and seconds_since_save >= 60 * self.config.interval_minutes
        values = [float(self.stop.exit_code), float(is_due), seconds_per_step]
        code, is_time, slowest = all_reduce_max(values)
        must_save = bool(code or starts_cooldown or is_time)
        if must_save and taken > self._steps_saved:
            self._begin_save(run, progress)
        if code:
            self.wait_until_written()
            barrier()  # a rank that ends earlier ends the others
            raise SystemExit(int(code))
        if world_group_or_none() is None:
            return sys.maxsize
        return max(1, int(MAX_CHECK_SECONDS / slowest))

    def wait_until_written(self) -> None:
        """Wait until the checkpoint that is being written is complete. Only rank 0 has one."""
        if self._pending is not None:
            self._pending.result()
            self._pending = None

    @property
    def must_stop_before_step(self) -> bool:
        """Whether a signal ends this lone process before its next step; several processes agree when they save."""
        return world_group_or_none() is None and self.stop.exit_code != 0

    def _begin_save(self, run: TrainRun, progress: TrainProgress) -> None:
        """Copy the state to the host, and begin to write it, after a checkpoint that is still being written."""
        self.wait_until_written()
        metadata = CheckpointMetadata(
            comparison=self._comparison,
            experiment=run.stream.experiment,
            commit=self._commit,
            steps_taken=len(progress.losses),
            processes=world_size(),
            data_digest=self._data_digest,
            seconds=progress.seconds_before + time.monotonic() - self._started,
            decoded=run.stream.stats.decoded,
            unusable=dict(run.stream.stats.unusable),
            overflows=int(run.step.overflows),
        )
        trunk = {f"trunk.{name}": value for name, value in progress.trunk_state.items()}
        state = gather_on_rank0(collect_state(run) | trunk)
        if world_rank() == 0:
            state["losses"] = torch.tensor(progress.losses, dtype=torch.float64)
            self._pending = self._writer.submit(self._write, metadata, state)
        self._steps_saved = metadata.steps_taken
        self._last_save = time.monotonic()

    def _write(self, metadata: CheckpointMetadata, state: NamedTensors) -> None:
        """Write a checkpoint; if that fails, log the error and keep the previous checkpoint."""
        write_tensors = partial(save_tensors, state)
        try:
            path = write_checkpoint_and_remove_old(
                Path(self.config.folder), metadata, write_tensors
            )
        except OSError as error:
            log(
                f"no checkpoint of step {metadata.steps_taken:,}, the one before it is kept: {error}"
            )
        else:
            if self.stop.exit_code:
                log(f"saved {path}")
