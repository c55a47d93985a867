"""The checkpoint manager, which saves and resumes a training."""

import math
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from tqdm import tqdm

from bench.console.console import StopRequest, escape_unprintable
from bench.data.image_sizes import images_before_step
from bench.data.samples import inputs_digest
from bench.data.stream import DecodeStats
from bench.environment.circumstances import current_commit
from bench.environment.files import LISTING_SECONDS
from bench.environment.rank_info import describe_node
from bench.interfaces.method import added_method_text
from bench.towers.head_file import save_tower
from bench.towers.provenance import Provenance
from bench.train.build import TrainState
from bench.train.checkpoints import (
    TENSORS,
    TOWER,
    CheckpointConfig,
    CheckpointMetadata,
    list_checkpoints,
    read_metadata,
    require_same_experiment,
    write_checkpoint,
)
from bench.train.distributed import all_gather_objects, all_reduce_max, barrier, world_group, world_rank, world_size
from bench.train.state import (
    ScheduleSegment,
    State,
    TrainProgress,
    collect_state,
    copy_state,
    gathered_for_rank0,
    load_state,
    shard_like,
    tower_state_to_score,
)
from models.checkpoint import strip_prefix
from models.tensor_file import write_tensors

MAX_CHECK_SECONDS = 5.0  # maximum interval between checks of several processes: torchrun kills 30 s after its signal


class CheckpointManager:
    """Saves at intervals, before each cool-down, and on a signal to end.

    Several processes save and end together, on a signal to any of them and by rank 0's clock; rank 0 writes.
    """

    def __init__(
        self, config: CheckpointConfig, comparison: str, budgets: Mapping[str, int], stop: StopRequest
    ) -> None:
        self.config, self.stop = config, stop
        self._comparison, self._budgets, self._commit = comparison, dict(budgets), current_commit()
        self._data_digest = ""
        self._steps_saved, self._started, self._last_save = 0, time.monotonic(), time.monotonic()
        self._steps_at_check, self._last_check = 0, time.monotonic()

    def restore(self, run: TrainState) -> TrainProgress:
        """Restore a run from its checkpoint; signals then wait for the end of a step."""
        if world_group() is not None:
            self._require_shared_folder()
        progress, self._data_digest = TrainProgress(), inputs_digest(run.stream.experiment)
        if self.config.resume_from:
            path = Path(self.config.resume_from)
            saved, tensors = read_metadata(path), load_file(path / TENSORS)  # mapped, and copied by tensor
            require_same_experiment(saved, run.stream.experiment, world_size())
            if saved.budgets != self._budgets:
                raise ValueError(f"{path} is of a training to {saved.budgets}, this one is to {self._budgets}")
            load_state(run, tensors)
            run.step.overflows.fill_(saved.overflows)
            run.stream.stats = DecodeStats(saved.decoded, Counter(saved.unusable))
            own = collect_state(run)
            trunk = strip_prefix("trunk.", tensors)  # with the state of a GPU's generator, if a GPU wrote it
            trunk = {name: shard_like(value, own.get(name, value)) for name, value in trunk.items()}
            progress = TrainProgress(tensors["losses"].tolist(), copy_state(trunk), saved.seconds)
        self._steps_saved, self._started, self._last_save = len(progress.losses), time.monotonic(), time.monotonic()
        self._steps_at_check, self._last_check = len(progress.losses), time.monotonic()
        self.stop.can_save = True
        return progress

    def _require_shared_folder(self) -> None:
        """Wait until all ranks list the same newest checkpoint; ValueError if they do not, or do not resume from one.

        All ranks read the checkpoint that rank 0 resumes from. Without it, a training would start anew and remove the
        newer checkpoints: where rank 0 is on another node than before, or NFS listed the folder as it was earlier.
        """
        for second in range(int(LISTING_SECONDS)):
            time.sleep(min(second, 1))
            newest = next((path.name for path in list_checkpoints(Path(self.config.folder))), None)
            found = all_gather_objects((newest, describe_node()))
            if len({name for name, _ in found}) == 1:
                break
        else:
            by_node = dict.fromkeys((name or "none", node) for name, node in found)
            seen = ", ".join(f"{name} on {node}" for name, node in by_node)
            text = f"the newest checkpoint in {self.config.folder} is {seen}"
            raise ValueError(f"{text}: name a folder in --out that all nodes share")
        if newest is not None and not self.config.resume_from:
            raise ValueError(f"{newest} appeared in {self.config.folder} after the start: start again")

    def maybe_save(self, run: TrainState, progress: TrainProgress, segment: ScheduleSegment) -> int:
        """Save if it is due; SystemExit after a signal to end. It is called before a step of `segment`.

        Return the number of steps until the next call: several processes notice a signal only here.
        """
        taken, is_first, now = len(progress.losses), world_rank() == 0, time.monotonic()
        new_steps = taken - self._steps_at_check
        seconds_per_step = (now - self._last_check) / new_steps if new_steps > 0 else math.inf
        self._last_check, self._steps_at_check = now, taken
        is_before_cooldown = segment.images is not None and taken == segment.first_step
        is_due = is_first and now - self._last_save >= 60 * self.config.interval_minutes
        values = [float(self.stop.code), float(is_due), seconds_per_step]
        code, is_time, slowest = all_reduce_max(values, run.stream.device)
        if taken > self._steps_saved and (code or is_before_cooldown or is_time):
            self._save(run, progress, segment)
        if code:
            barrier()  # a rank that ends earlier ends the others
            raise SystemExit(int(code))
        return sys.maxsize if world_group() is None else max(1, int(MAX_CHECK_SECONDS / slowest))

    @property
    def is_stopping(self) -> bool:
        """Return whether to stop before the next step; several processes agree only in `maybe_save`."""
        return world_group() is None and self.stop.code != 0

    def _save(self, run: TrainState, progress: TrainProgress, segment: ScheduleSegment) -> None:
        """Save; a failure to write is logged, and the previous checkpoint is kept."""
        experiment, taken = run.stream.experiment, len(progress.losses)
        ranks = world_size()
        images = images_before_step(experiment, segment.batches.start + taken - segment.first_step) * ranks
        saved = CheckpointMetadata(
            comparison=self._comparison,
            experiment=experiment,
            budgets=self._budgets,
            commit=self._commit,
            steps_taken=taken,
            phase=segment.phase,
            images=images,
            processes=ranks,
            data_digest=self._data_digest,
            seconds=progress.seconds + time.monotonic() - self._started,
            decoded=run.stream.stats.decoded,
            unusable=dict(run.stream.stats.unusable),
            overflows=int(run.step.overflows),
        )
        state = collect_state(run) | {f"trunk.{name}": value for name, value in progress.trunk.items()}
        state["losses"] = torch.tensor(progress.losses, dtype=torch.float64)
        is_written = self._write(saved, tower_state_to_score(run), state)
        if any(all_reduce_max([float(is_written)], run.stream.device)):
            self._steps_saved = taken
        self._last_save = time.monotonic()

    def _write(self, saved: CheckpointMetadata, tower: State, state: State) -> bool:
        """Write a checkpoint on rank 0; return whether it succeeded, and log the result.

        The ranks gather one tensor at a time, so that none holds a copy of all.
        """
        with gathered_for_rank0(tower, state) as (tower_tensors, state_tensors):

            def write(folder: Path) -> None:
                text = added_method_text(saved.experiment)
                provenance = Provenance(experiment=saved.experiment, images=saved.images, budgets=(), method=text)
                save_tower(tower, folder / TOWER, provenance.to_facts(), tower_tensors)
                with (folder / TENSORS).open("wb") as file:
                    write_tensors(file, state, state_tensors, {})

            if world_rank() != 0:
                return False
            try:
                path = write_checkpoint(Path(self.config.folder), saved, write)
            except OSError as error:
                message = f"no checkpoint of step {saved.steps_taken:,}, the one before it is kept: {error}"
                tqdm.write(escape_unprintable(message), file=sys.stderr)
                return False
        if self.stop.code:
            tqdm.write(escape_unprintable(f"saved {path}"), file=sys.stderr)
        return True
