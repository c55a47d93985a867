"""The verb `train`: a pre-training run that can be stopped, taken up and watched, and the scores of its tower."""

import math
import re
import shlex
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from bench.catalog import TASKS
from bench.cli.options import Json, Settings, Tasks
from bench.config import Experiment, Keeping, choose, with_settings
from bench.console.exit_codes import FAILED_CASE, OK
from bench.console.tables import show
from bench.environment.commit import commit
from bench.environment.file_names import plain_name
from bench.environment.rank_info import place, restarts
from bench.experiments import experiment_named
from bench.measure.tables import failure_table
from bench.orchestration.comparison import Scope, with_images
from bench.orchestration.preflight import begin
from bench.train.checkpoints import alone, checkpoints, newest_whole, require_same, tell_what_differs
from bench.transfer.score_tables import accuracy_tables

CHECKPOINT_MINUTES = 15.0
UNITS = {"": 1, "k": 10**3, "M": 10**6, "B": 10**9}


@dataclass(frozen=True, slots=True)
class Train:
    """Pre-train a tower and score what it learned. It can be stopped at any time and goes on with --resume."""

    name: Positional[str]
    images: Annotated[
        str | None, arg(metavar="N", help="to see, as 80000, 80k or 12.8M; by default the experiment's")
    ] = None
    data: Annotated[str | None, arg(metavar="SHARDS", help="folder, file or glob of tars; the shipped pack")] = None
    out: Annotated[Path | None, arg(help="folder for checkpoints, records and tower; results/train-NAME")] = None
    resume: bool = False  # go on from the newest checkpoint in that folder
    checkpoint_minutes: float = CHECKPOINT_MINUTES  # from one checkpoint to the next; the newest two are kept
    tensorboard: bool = False  # also write event files, into OUT/tensorboard
    tasks: Tasks = ()
    settings: Settings = ()
    json: Json = None

    @property
    def how_to_go_on(self) -> str:
        """Tell the command."""
        if not checkpoints(self._checkpoints):
            return "nothing was saved yet; the same command begins again"
        return f"go on with: {self._command} --resume"

    def run(self) -> int:
        """Train to one budget, score the tower and its untrained self."""
        experiment = self._experiment()
        tasks = [choose(task, dict.fromkeys(TASKS, task), "task") for task in self.tasks] or TASKS
        if not 0 < self.checkpoint_minutes < math.inf:
            raise ValueError(f"--checkpoint-minutes must be positive, got {self.checkpoint_minutes}")
        if self.tensorboard and find_spec("tensorboard") is None:
            raise ValueError("--tensorboard needs a package: python -m pip install -e '.[tensorboard]'")
        taken_up, name = self._taken_up(experiment)
        scope = Scope("train", 0, seeds=(experiment.seed,), half_way=False, equal_seconds=False, curves=())
        comparison = begin(self._out, [experiment], scope, name=name)
        events = str((self._out / "tensorboard").resolve()) if self.tensorboard else ""
        folder = str(self._checkpoints.resolve())
        keeping = Keeping(folder=folder, minutes=self.checkpoint_minutes, taken_up=taken_up, tensorboard=events)
        comparison.train(scope, keeping)
        if experiment.embedding_channels is not None:
            print("not scored: the tasks hold pictures, and this tower reads embeddings", file=sys.stderr)
        elif not comparison.runner.failures:
            comparison.score(scope, tasks)
        show([*accuracy_tables(comparison.records()), failure_table(comparison.records())], self.json)
        for path in sorted(comparison.results.glob(f"{comparison.name}.tower.*.safetensors")):
            print(f"tower: {path}", file=sys.stderr)
        if comparison.runner.failures:
            print(self.how_to_go_on, file=sys.stderr)
            return FAILED_CASE
        return OK

    @property
    def _out(self) -> Path:
        return self.out or Path("results") / f"train-{plain_name(self._experiment().name)}"

    @property
    def _checkpoints(self) -> Path:
        return self._out / "checkpoints"

    @property
    def _command(self) -> str:
        """The command line that was given, without --resume."""
        ranks = place().ranks
        start = ["python"] if ranks == 1 else ["torchrun", "--nproc-per-node", str(place().local_ranks)]
        words = [*start, "-m", "bench", "train", self.name]
        for name, value in (("images", self.images), ("data", self.data), ("out", self.out), ("json", self.json)):
            words += [] if value is None else [f"--{name}", str(value)]
        if self.checkpoint_minutes != CHECKPOINT_MINUTES:
            words += ["--checkpoint-minutes", f"{self.checkpoint_minutes:g}"]
        words += ["--tensorboard"] if self.tensorboard else []
        words += [word for task in self.tasks for word in ("--task", task)]
        words += [word for setting in self.settings for word in ("--set", setting)]
        return shlex.join(words)

    def _experiment(self) -> Experiment:
        data = [] if self.data is None else [f"data={self.data}"]
        experiment = with_settings(experiment_named(self.name), [*self.settings, *data])
        if self.images is None:
            return experiment
        images, batch = number_of(self.images), experiment.batch_size * place().ranks
        if images < 2 * batch:
            raise ValueError(f"--images must be at least two batches ({2 * batch}), got {self.images}")
        return with_images(experiment, images)

    def _taken_up(self, experiment: Experiment) -> tuple[str, str | None]:
        """Return the checkpoint to go on from, if any, and its comparison; ValueError where the folder forbids it."""
        if restarts() and not checkpoints(self._checkpoints):
            return "", None  # nothing was saved before one of the processes failed
        if not (self.resume or restarts()):
            if found := checkpoints(self._checkpoints):
                remedy = f"go on with: {self._command} --resume, or name another folder with --out"
                raise ValueError(f"{self._out} holds a training already ({found[0].name}); {remedy}")
            return "", None
        with alone(self._checkpoints) if self._checkpoints.is_dir() else nullcontext():
            path, saved = newest_whole(self._checkpoints)
        require_same(saved, experiment, place().ranks)
        tell_what_differs(path, saved, place().ranks, commit())
        return str(path.resolve()), saved.comparison


def number_of(text: str) -> int:
    """Read a count of images, as 80000, 80k, 12.8M or 1.28B."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kMB]?)", text)
    if match is None:
        raise ValueError(f"--images is a number, as 80000, 80k or 12.8M, got {text!r}")
    return round(float(match[1]) * UNITS[match[2]])
