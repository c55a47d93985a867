"""The checkpoint manager, which saves and resumes a training."""

import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from bench.config import Keeping
from bench.console.console import printable
from bench.console.signals import Stop
from bench.data.shards.identity import data_digest
from bench.environment.commit import commit
from bench.image_sizes import images_before
from bench.towers.made import Made
from bench.train.build import Assembled
from bench.train.checkpoints import TENSORS, TOWER, Saved, read_state, require_same, write_checkpoint
from bench.train.distributed import group_of_all, largest, together
from bench.train.state import State, copied, load_state, on_cpu, scored_weights, state_of, under
from bench.train.train_progress import Course, Leg
from losses.collectives import place
from models.checkpoint import save_tower

LOOK_SECONDS = 5.0  # maximum interval between checks of several processes: torchrun kills 30 s after its signal


class Keeper:
    """Saves at intervals, before each cool-down, and on a signal to end.

    Several processes save and end together, on a signal to any of them and by rank 0's clock; rank 0 writes.
    """

    def __init__(self, keeping: Keeping, comparison: str, budgets: Mapping[str, int], stop: Stop) -> None:
        self.keeping, self.stop = keeping, stop
        self._comparison, self._budgets, self._commit = comparison, dict(budgets), commit()
        self._data_digest = ""
        self._steps_saved, self._began, self._tried = 0, time.monotonic(), time.monotonic()
        self._steps_looked, self._looked = 0, time.monotonic()

    def take_up(self, run: Assembled) -> Course:
        """Restore a run from its checkpoint; signals then wait for the end of a step."""
        course, self._data_digest = Course(), data_digest(run.stream.experiment)
        if self.keeping.taken_up:
            path = Path(self.keeping.taken_up)
            saved, tensors = read_state(path), copied(load_file(path / TENSORS))  # releases the mapped file
            require_same(saved, run.stream.experiment, place(group_of_all())[1])
            if saved.budgets != self._budgets:
                raise ValueError(f"{path} is of a training to {saved.budgets}, this one is to {self._budgets}")
            load_state(run, tensors)
            course = Course(tensors["losses"].tolist(), under("trunk.", tensors), saved.seconds)
        self._steps_saved, self._began, self._tried = len(course.losses), time.monotonic(), time.monotonic()
        self._steps_looked, self._looked = len(course.losses), time.monotonic()
        self.stop.can_save = True
        return course

    def look(self, run: Assembled, course: Course, leg: Leg) -> int:
        """Save if it is due; SystemExit after a signal to end. It is called before a step of `leg`.

        Return the number of steps until the next call: several processes notice a signal only here.
        """
        taken, is_first, now = len(course.losses), place(group_of_all())[0] == 0, time.monotonic()
        pace = (now - self._looked) / (taken - self._steps_looked) if taken > self._steps_looked else math.inf
        self._looked, self._steps_looked = now, taken
        cools_next = leg.images is not None and taken == leg.begin
        has_waited = is_first and now - self._tried >= 60 * self.keeping.minutes
        told = [float(self.stop.code), float(has_waited), pace]
        code, is_time, slowest = largest(told, run.stream.device, group_of_all())
        if taken > self._steps_saved and (code or cools_next or is_time):
            self._save(run, course, leg)
        if code:
            together(group_of_all())  # a rank that ends earlier ends the others
            raise SystemExit(int(code))
        return sys.maxsize if group_of_all() is None else max(1, int(LOOK_SECONDS / slowest))

    @property
    def ends_now(self) -> bool:
        """Return whether to stop before the next step; several processes agree only in `look`."""
        return group_of_all() is None and self.stop.code != 0

    def _save(self, run: Assembled, course: Course, leg: Leg) -> None:
        """Save; a failure to write is logged, and the previous checkpoint is kept."""
        experiment, taken = run.stream.experiment, len(course.losses)
        rank, ranks = place(group_of_all())
        images = images_before(experiment, leg.steps.start + taken - leg.begin) * ranks
        saved = Saved(
            comparison=self._comparison,
            experiment=experiment,
            budgets=self._budgets,
            commit=self._commit,
            steps_taken=taken,
            phase=leg.phase,
            images=images,
            processes=ranks,
            data_digest=self._data_digest,
            seconds=course.seconds + time.monotonic() - self._began,
        )

        state = state_of(run) | {f"trunk.{name}": value for name, value in course.trunk.items()}
        state["losses"] = torch.tensor(course.losses, dtype=torch.float64)
        weights, whole = scored_weights(run), on_cpu(state)
        is_written = rank == 0 and self._write(saved, weights, whole)
        if any(largest([float(is_written)], run.stream.device, group_of_all())):
            self._steps_saved = taken
        self._tried = time.monotonic()

    def _write(self, saved: Saved, weights: State, state: State) -> bool:
        """Write a checkpoint; return whether it succeeded, and log the result."""

        def write(folder: Path) -> None:
            made = Made(experiment=saved.experiment, images=saved.images, budgets=())
            save_tower(weights, folder / TOWER, made.to_facts())
            save_file(state, folder / TENSORS)

        try:
            path = write_checkpoint(Path(self.keeping.folder), saved, write)
        except (OSError, SafetensorError) as error:
            told = f"no checkpoint of step {saved.steps_taken:,}, the one before it is kept: {error}"
            tqdm.write(printable(told), file=sys.stderr)
            return False
        if self.stop.code:
            tqdm.write(f"saved {path}", file=sys.stderr)
        return True
