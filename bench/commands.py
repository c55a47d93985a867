"""What each verb of the command line does. No torch here: the runs are processes of their own."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol

import pynvml
from msgspec.structs import replace
from tyro.conf import Positional, UseAppendAction, arg

from bench.commit import CHECKOUT, commit
from bench.comparison import (
    FULL_IMAGES,
    SMOKE_IMAGES,
    Comparison,
    Scope,
    expected_seconds,
    new_comparison,
    newest_comparison,
    scopes,
    with_images,
)
from bench.config import METHOD_NAMES, Experiment, require_one_comparison, with_settings
from bench.data.manifest import CACHE, PARTS, cache_path, verify_pack
from bench.experiments import EXPERIMENTS, experiment_named
from bench.jobs import Runner
from bench.progress import Progress
from bench.statistics import fewest_rounds
from bench.tables import experiment_table, score_table, speed_table
from bench.towers import how_made, newest_towers

Settings = Annotated[
    tuple[str, ...],
    UseAppendAction,
    arg(name="set", metavar="FIELD=VALUE", help="change a field of the experiments; may be repeated"),
]
Results = Annotated[Path, arg(help="folder for records and towers")]
Json = Annotated[Path | None, arg(help="also write the figures to this file, as one JSON object")]


class Command(Protocol):
    """A parsed verb."""

    @property
    def how_to_go_on(self) -> str:
        """What to tell a person who interrupted it."""
        ...

    def run(self) -> bool:
        """Do it; return whether a run failed. Raises ValueError or OSError for what the person can mend."""
        ...


@dataclass(frozen=True, slots=True)
class Bench:
    """Compare the methods at the tiny scale: throughput, memory, training at equal budgets, transfer scores.

    Takes about ten minutes on two cores and leaves records in the results folder; `python -m reports build` makes the
    page of them.
    """

    smoke: bool = False  # the whole way in a minute: one round, a short training; its figures mean nothing
    full: bool = False  # three seeds and longer training, over an hour on two cores; ranks by seeds
    resume: bool = False  # go on with the newest comparison of this scope; what is recorded is not run again
    results: Results = Path("results")

    @property
    def how_to_go_on(self) -> str:
        """Tell the command."""
        scope = f" --{self._scope}" if self._scope != "default" else ""
        options = f"--resume{scope}"
        return f"finished records are kept; go on with: nox -s bench -- {options} (or: python -m bench {options})"

    def run(self) -> bool:
        """Measure, train, score."""
        experiments = [EXPERIMENTS[f"{method}-tiny"] for method in METHOD_NAMES]
        scope = scopes(len(experiments))[self._scope]
        if self.smoke:
            shorter = {"warmup_steps": 2, "windows": 2, "steps_per_window": 2}
            experiments = [replace(with_images(experiment, SMOKE_IMAGES), **shorter) for experiment in experiments]
        if self.full:
            experiments = [with_images(experiment, FULL_IMAGES) for experiment in experiments]
        comparison = _comparison(self.results, experiments, scope, resume=self.resume)
        comparison.measure_memory()
        comparison.measure(scope.rounds)
        comparison.train(scope)
        comparison.score(scope)
        speed_table(comparison.records(), [e.name for e in experiments]).print()
        score_table(comparison.records()).print()
        return bool(comparison.runner.failures)

    @property
    def _scope(self) -> str:
        if self.smoke and self.full:
            raise ValueError("--smoke and --full exclude each other")
        return "smoke" if self.smoke else "full" if self.full else "default"


@dataclass(frozen=True, slots=True)
class List:
    """Show every named experiment."""

    how_to_go_on = "nothing was lost"

    def run(self) -> bool:
        """Print the table."""
        experiment_table(EXPERIMENTS.values()).print()
        return False


@dataclass(frozen=True, slots=True)
class Measure:
    """Measure the throughput and memory of experiments, as ratios to the first.

    Each round runs every experiment once, alone in a fresh process, in rotated order.
    """

    names: Positional[tuple[str, ...]]
    rounds: int | None = None  # of fresh processes; by default the fewest that can call every ratio, five or more
    settings: Settings = ()
    results: Results = Path("results")
    json: Json = None
    how_to_go_on = "finished records are kept in the results folder"

    def run(self) -> bool:
        """Measure, then print the ratios."""
        if not self.names:
            raise ValueError(f"name the experiments to measure (there are {', '.join(EXPERIMENTS)})")
        if self.rounds is not None and self.rounds < 1:
            raise ValueError(f"--rounds must be at least 1, got {self.rounds}")
        experiments = [with_settings(experiment_named(name), self.settings) for name in dict.fromkeys(self.names)]
        rounds = self.rounds or fewest_rounds(len(experiments) - 1)
        comparison = _comparison(self.results, experiments, Scope("measure", rounds), trained=False)
        comparison.measure_memory()
        comparison.measure(rounds)
        speed_table(comparison.records(), [e.name for e in experiments]).print(self.json)
        return bool(comparison.runner.failures)


@dataclass(frozen=True, slots=True)
class Train:
    """Pre-train a tower and score what it learned."""

    name: Positional[str]
    images: int | None = None  # to see, the last fifth while the learning rate falls; by default the experiment's
    settings: Settings = ()
    results: Results = Path("results")
    json: Json = None
    how_to_go_on = "a training that is not finished leaves nothing"

    def run(self) -> bool:
        """Train to one budget, score the tower and its untrained self."""
        experiment = with_settings(experiment_named(self.name), self.settings)
        if self.images is not None and self.images < experiment.batch_size:
            raise ValueError(f"--images must be at least one batch ({experiment.batch_size}), got {self.images}")
        if self.images is not None:
            experiment = with_images(experiment, self.images)
        scope = Scope("train", 0, seeds=(experiment.seed,), half_way=False, equal_seconds=False)
        comparison = _comparison(self.results, [experiment], scope)
        comparison.train(scope)
        comparison.score(scope)
        score_table(comparison.records()).print(self.json)
        for path in sorted(comparison.results.glob(f"{comparison.name}.tower.*.safetensors")):
            print(f"tower: {path}", file=sys.stderr)
        return bool(comparison.runner.failures)


@dataclass(frozen=True, slots=True)
class Transfer:
    """Score a tower file, or the newest towers trained of a named experiment, beside the untrained tower."""

    tower: Positional[str]
    results: Results = Path("results")
    json: Json = None
    how_to_go_on = "scored towers are kept in the results folder"

    def run(self) -> bool:
        """Score."""
        towers = [Path(self.tower)] if self.tower.endswith(".safetensors") else newest_towers(self.results, self.tower)
        experiment = how_made(towers[0]).experiment
        comparison = _comparison(self.results, [experiment], Scope("transfer", 0), trained=False)
        comparison.score_towers([str(tower.resolve()) for tower in towers], (experiment.seed,))
        score_table(comparison.records()).print(self.json)
        return bool(comparison.runner.failures)


def _comparison(
    results: Path, experiments: Sequence[Experiment], scope: Scope, *, resume: bool = False, trained: bool = True
) -> Comparison:
    """Check what would stop a long run late, then begin a comparison or take up the newest."""
    require_one_comparison(experiments)
    verify_pack()
    results = results.resolve()
    _require_writable(results)
    name = newest_comparison(results, scope.name) if resume else new_comparison(scope.name)
    on_gpu, cores = _has_gpu(), _cores()
    seconds = expected_seconds(experiments, scope, 1 if on_gpu else cores, trained=trained)
    comparison = Comparison(name, results, experiments, cores, on_gpu, Runner(Progress(seconds)))
    if other := {record.circumstances.commit for record in comparison.records()} - {commit()}:
        raise ValueError(f"{name} was begun at commit {', '.join(other)}, this is {commit()}: begin a new comparison")
    _decode_pictures(results / CACHE)
    for failure in results.glob(f"{name}.failure.*.json"):
        failure.unlink()  # it is tried again
    return comparison


def _decode_pictures(cache: Path) -> None:
    """Decode the pack in a process of its own, where it has not been: no run's memory or time is spent on it."""
    if not all(cache_path(part, cache).is_file() for part in PARTS):
        print("decoding the pack's pictures, once", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "bench.data.pack", str(cache)], cwd=CHECKOUT, check=True)


def _require_writable(results: Path) -> None:
    try:
        results.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=results):
            pass
    except OSError as error:
        raise OSError(f"the results folder {results} cannot be written: {error.strerror}") from None


def _cores() -> int:
    """Return how many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _has_gpu() -> bool:
    try:
        pynvml.nvmlInit()
        return bool(pynvml.nvmlDeviceGetCount() > 0)
    except pynvml.NVMLError:
        return False


VERBS: dict[str, type[Command]] = {"list": List, "measure": Measure, "train": Train, "transfer": Transfer}
