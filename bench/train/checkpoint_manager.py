"""The checkpoint manager, which saves and resumes a training."""

import math
import sys
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors.torch import load_file
from tqdm import tqdm

from bench.console.console import StopRequest, escape_unprintable
from bench.data.image_sizes import images_before_step
from bench.data.stream import DecodeStats
from bench.environment.circumstances import current_commit
from bench.environment.files import LISTING_SECONDS
from bench.environment.rank_info import describe_node
from bench.interfaces.method import added_method_text
from bench.towers.provenance import Provenance
from bench.train.build import TrainState
from bench.train.checkpoints import (
    TENSORS,
    TOWER,
    CheckpointConfig,
    CheckpointMetadata,
    Writer,
    list_checkpoints,
    read_metadata,
    require_same_experiment,
    write_checkpoint,
)
from bench.train.distributed import (
    all_gather_objects,
    all_reduce_max,
    barrier,
    world_group,
    world_rank,
    world_size,
)
from bench.train.equal_data import shared_inputs_digest
from bench.train.state import (
    ScheduleSegment,
    State,
    TrainProgress,
    collect_state,
    copy_state,
    gather_to_host,
    load_state,
    shard_like,
    tower_state_to_score,
)
from models.checkpoint import strip_prefix
from models.tensor_file import file_order, write_tensors

MAX_CHECK_SECONDS = 5.0  # maximum interval between checks of several processes: torchrun kills 30 s after its signal

ATTEMPTS = 2  # to write a checkpoint


class CheckpointManager:
    """Saves at intervals, before each cool-down, and on a signal to end.

    Several processes save and end together, on a signal to any of them and by rank 0's clock. Rank 0 copies the state
    to the host, and writes it in a thread while the training goes on. At most one checkpoint is being written: the next
    save waits for it, as does the end of the training.
    """

    def __init__(
        self,
        config: CheckpointConfig,
        comparison: str,
        budgets: Mapping[str, int],
        stop: StopRequest,
    ) -> None:
        self.config = config
        self.stop = stop
        self._comparison = comparison
        self._budgets = dict(budgets)
        self._commit = current_commit()
        self._data_digest = ""
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint-writer")
        self._pending: Future[int] | None = (
            None  # steps of the newest checkpoint when it is written
        )
        self._begin(0)

    def restore(self, run: TrainState) -> TrainProgress:
        """Restore a run from its checkpoint; signals then wait for the end of a step."""
        if world_group() is not None:
            self._require_shared_folder()
        progress = TrainProgress()
        self._data_digest = shared_inputs_digest(run.stream.experiment)
        if self.config.resume_from:
            path = Path(self.config.resume_from)
            saved = read_metadata(path)
            tensors = load_file(path / TENSORS)  # mapped, and copied by tensor
            require_same_experiment(saved, run.stream.experiment, world_size(), self._data_digest)
            if saved.budgets != self._budgets:
                raise ValueError(
                    f"{path} is of a training to {saved.budgets}, this one is to {self._budgets}"
                )
            load_state(run, tensors)
            run.step.overflows.fill_(saved.overflows)
            run.stream.stats = DecodeStats(saved.decoded, Counter(saved.unusable))
            state = collect_state(run)
            # With the state of a GPU's generator, if a GPU wrote it.
            trunk = strip_prefix("trunk.", tensors)
            trunk = {
                name: shard_like(value, state.get(name, value)) for name, value in trunk.items()
            }
            progress = TrainProgress(tensors["losses"].tolist(), copy_state(trunk), saved.seconds)
        self._begin(len(progress.losses))
        self.stop.can_save = True
        return progress

    def _begin(self, steps_taken: int) -> None:
        """Begin to count steps and time."""
        now = time.monotonic()
        self._steps_saved = steps_taken  # rank 0's counts
        self._steps_at_check = steps_taken
        self._started = now
        self._last_save = now
        self._last_check = now

    def _require_shared_folder(self) -> None:
        """Wait until all ranks list the same newest checkpoint; ValueError if they do not, or do not resume from one.

        All ranks read the checkpoint that rank 0 resumes from. Without it, a training would start anew and remove the
        newer checkpoints: where rank 0 is on another node than before, or NFS listed the folder as it was earlier.
        """
        for second in range(int(LISTING_SECONDS)):
            time.sleep(min(second, 1))
            checkpoints = list_checkpoints(Path(self.config.folder))
            newest = checkpoints[0].name if checkpoints else None
            newest_and_nodes = all_gather_objects((newest or "none", describe_node()))
            if len({name for name, _ in newest_and_nodes}) == 1:
                break
        else:
            listed = ", ".join(
                f"{name} on {node}" for name, node in dict.fromkeys(newest_and_nodes)
            )
            text = f"the newest checkpoint in {self.config.folder} is {listed}"
            raise ValueError(f"{text}: name a folder in --out that all nodes share")
        if newest is not None and not self.config.resume_from:
            raise ValueError(
                f"{newest} appeared in {self.config.folder} after the start: start again"
            )

    def maybe_save(self, run: TrainState, progress: TrainProgress, segment: ScheduleSegment) -> int:
        """Save if it is due; SystemExit after a signal to end. It is called before a step of `segment`.

        Return the number of steps until the next call: several processes notice a signal only here.
        """
        taken = len(progress.losses)
        now = time.monotonic()
        new_steps = taken - self._steps_at_check
        seconds_per_step = (now - self._last_check) / new_steps if new_steps > 0 else math.inf
        self._last_check = now
        self._steps_at_check = taken
        is_before_cooldown = segment.images is not None and taken == segment.first_step
        is_due = world_rank() == 0 and now - self._last_save >= 60 * self.config.interval_minutes
        values = [float(self.stop.code), float(is_due), seconds_per_step]
        code, is_time, slowest = all_reduce_max(values, run.stream.device)
        if code or is_before_cooldown or is_time:
            self._save(run, progress, segment)
        if code:
            self.close()
            barrier()  # a rank that ends earlier ends the others
            raise SystemExit(int(code))
        return sys.maxsize if world_group() is None else max(1, int(MAX_CHECK_SECONDS / slowest))

    def close(self) -> None:
        """Wait until the checkpoint that is being written is complete; rank 0 writes, the others have none."""
        if self._pending is not None:
            self._steps_saved = self._pending.result()
            self._pending = None

    @property
    def is_stopping(self) -> bool:
        """Return whether to stop before the next step; several processes agree only in `maybe_save`."""
        return world_group() is None and self.stop.code != 0

    def _save(self, run: TrainState, progress: TrainProgress, segment: ScheduleSegment) -> None:
        """Copy the state to the host, and begin to write it, unless it is saved already.

        A checkpoint that is still being written is completed first.
        """
        self.close()
        taken = len(progress.losses)
        is_new = world_rank() == 0 and taken > self._steps_saved
        if not any(all_reduce_max([float(is_new)], run.stream.device)):
            return
        metadata = self._metadata(run, progress, segment)
        tower = gather_to_host(tower_state_to_score(run))
        state = gather_to_host(
            collect_state(run) | {f"trunk.{name}": value for name, value in progress.trunk.items()}
        )
        if world_rank() == 0:
            state["losses"] = torch.tensor(progress.losses, dtype=torch.float64)
            self._pending = self._writer.submit(self._write, metadata, tower, state)
        self._last_save = time.monotonic()

    def _metadata(
        self, run: TrainState, progress: TrainProgress, segment: ScheduleSegment
    ) -> CheckpointMetadata:
        experiment = run.stream.experiment
        taken = len(progress.losses)
        images_per_rank = images_before_step(
            experiment, segment.batches.start + taken - segment.first_step
        )
        return CheckpointMetadata(
            comparison=self._comparison,
            experiment=experiment,
            budgets=self._budgets,
            commit=self._commit,
            steps_taken=taken,
            phase=segment.phase,
            images=images_per_rank * world_size(),
            processes=world_size(),
            data_digest=self._data_digest,
            seconds=progress.seconds + time.monotonic() - self._started,
            decoded=run.stream.stats.decoded,
            unusable=dict(run.stream.stats.unusable),
            overflows=int(run.step.overflows),
        )

    def _write(self, metadata: CheckpointMetadata, tower: State, state: State) -> int:
        """Write a checkpoint, again if the first attempt fails; return the steps of the newest one that is written.

        If no attempt succeeds, the error is logged, and the previous checkpoint is kept.
        """
        method = added_method_text(metadata.experiment)
        provenance = Provenance(
            experiment=metadata.experiment, images=metadata.images, budgets=(), method=method
        )
        writers = {
            TOWER: tensor_writer(tower, provenance.to_facts()),
            TENSORS: tensor_writer(state, {}),
        }
        failure = None
        for _ in range(ATTEMPTS):
            try:
                path = write_checkpoint(Path(self.config.folder), metadata, writers)
            except OSError as error:
                failure = error
                continue
            if self.stop.code:
                tqdm.write(escape_unprintable(f"saved {path}"), file=sys.stderr)
            return metadata.steps_taken
        warning = (
            f"no checkpoint of step {metadata.steps_taken:,}, the one before it is kept: {failure}"
        )
        tqdm.write(escape_unprintable(warning), file=sys.stderr)
        return self._steps_saved


def tensor_writer(state: State, facts: Mapping[str, str]) -> Writer:
    """Return a writer of a safetensors file."""
    tensors = [state[name] for name in file_order(state)]
    return lambda file: write_tensors(file, state, tensors, facts)
