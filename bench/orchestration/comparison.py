"""A comparison: rounds of speed runs, memory runs, trainings at equal budgets, scoring. No torch here."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from msgspec import structs

from bench.console.console import log
from bench.environment.busy_processes import (
    BUSY_PROCESSES,
    find_busy_processes,
    undisturbed_threads,
)
from bench.environment.rank_info import torchrun_env
from bench.experiment.config import Experiment, change
from bench.experiment.settings import with_batch_size
from bench.interfaces.catalog import RANDOM_INIT, ScoringSubject, installed_references
from bench.interfaces.measurement import get_measurement
from bench.orchestration.batch_search import (
    find_largest_fitting,
    guess_batch_size,
    smallest_batch_to_try,
)
from bench.orchestration.budgets import image_budgets, measured_speeds, set_images
from bench.orchestration.runner import Runner
from bench.orchestration.runs import Run
from bench.orchestration.scope import Scope
from bench.orchestration.scoring import scoring_run
from bench.orchestration.stages import StageTimes, read_first_round
from bench.records.record import (
    BatchTrial,
    Flops,
    Memory,
    Record,
    Speed,
    Training,
    read_record,
    read_records,
    record_path,
)
from bench.tables.formats import GIB, join_words, pluralize
from bench.train.checkpoints import CheckpointConfig


class _SearchFailed(Exception):  # noqa: N818 - it only ends a search
    """An attempt failed other than out of memory; the failure is recorded."""


@dataclass(slots=True)
class Comparison:
    """Experiments compared under one name, in a folder; runs whose records exist are not repeated."""

    name: str
    results: Path
    experiments: Sequence[Experiment]
    cores: int
    on_gpu: bool
    runner: Runner
    round_seconds: float | None = None  # of the last round; None: no whole round was run

    @property
    def max_parallel(self) -> int:
        """Return the number of parallel untimed runs: one per core, or one on a GPU and over several processes."""
        is_single = self.on_gpu or self.runner.launch or torchrun_env().world_size > 1
        return 1 if is_single else self.cores

    def new_run(
        self,
        function: str,
        kind: str,
        experiment: Experiment,
        label: str,
        *names: object,
        is_distributed: bool = False,
        **arguments: Any,
    ) -> Run:
        """Return a run of this comparison: a "module:function" that is called with the arguments.

        Its file is named by its kind, the experiment, the seed and `names`.
        """
        path = record_path(
            self.results, self.name, kind, experiment.name, f"seed{experiment.seed}", *names
        )
        return Run(
            function=function,
            label=label,
            results=str(self.results),
            comparison=self.name,
            experiment=experiment,
            files=(str(path),),
            arguments=arguments,
            is_distributed=is_distributed,
        )

    def measure(
        self,
        rounds: int,
        experiments: Sequence[Experiment] | None = None,
        *,
        first_round: int = 0,
        later_seconds: float = 0.0,
    ) -> None:
        """Time every experiment once per round, each in a fresh process; see `timing_threads` for its threads.

        `later_seconds` are expected after the last round.
        """
        for round_ in range(first_round, rounds):
            self.run_round(self.speed_runs(experiments or self.experiments, round_, rounds))
            if self.round_seconds is not None:
                self.runner.progress.expect(
                    (rounds - round_ - 1) * self.round_seconds + later_seconds
                )

    def run_round(self, runs: Sequence[Run]) -> None:
        """Run a round: interleaved by window on a CPU without a launcher, else one run after the other.

        A CPU's cores are often shared with other work; a GPU's memory may hold only one run.
        """
        is_new = not any(run.is_done for run in runs)
        start = time.monotonic()
        if self.on_gpu:
            self.runner.run(runs, threads=self.cores)
        else:
            self.runner.run_interleaved(runs, threads=self.timing_threads())
        if is_new:
            self.round_seconds = time.monotonic() - start

    def timing_threads(self) -> int:
        """Return the threads of timed runs on a CPU: as in recorded runs, else OMP_NUM_THREADS, else one a core.

        Cores that other processes keep busy all the time are left to them, because they would slow most steps.
        """
        for record in self.records():
            if isinstance(record.measured, Speed):
                os.environ[BUSY_PROCESSES] = record.circumstances.busy_processes
                return record.circumstances.threads
        chosen = os.environ.get("OMP_NUM_THREADS", "")
        if chosen.isdecimal() and int(chosen) > 0:
            return int(chosen)
        processes = find_busy_processes()
        threads = undisturbed_threads(self.cores, processes)
        if threads < self.cores:
            names = join_words([str(process) for process in processes])
            os.environ[BUSY_PROCESSES] = names
            log(
                f"timed with {pluralize(threads, 'thread')} in place of {self.cores}, because {names} kept a core busy"
            )
        return threads

    def speed_runs(
        self,
        experiments: Sequence[Experiment],
        round_: int,
        rounds: int | None = None,
        rotation: int | None = None,
    ) -> list[Run]:
        """Return the speed runs of a round. `rotation` numbers the rounds of a kind where there are several kinds."""
        label = f"round {round_ + 1}" + (f" of {rounds}" if rounds else "")
        runs = list[Run]()
        for experiment in _rotate(experiments, round_ if rotation is None else rotation):
            run = self.new_run(
                "bench.measure.speed:measure_speed",
                "speed",
                experiment,
                f"speed of {experiment.name}, {label}",
                f"round{round_:02}",
                is_distributed=True,
                round_=round_,
                flops=self._flops_of_first_round(experiment) if round_ else None,
            )
            runs.append(run)
        return runs

    def _flops_of_first_round(self, experiment: Experiment) -> Flops | None:
        """Return the FLOPs that the first round counted. On a GPU they differ, because heating moves the steps."""
        path = record_path(
            self.results, self.name, "speed", experiment.name, f"seed{experiment.seed}", "round00"
        )
        if self.on_gpu or not path.is_file():
            return None
        speed = read_record(path).measured
        return speed.flops if isinstance(speed, Speed) else None

    def stage_times(self) -> StageTimes | None:
        """Return the expected times after the first round; None if a run of it failed."""
        first_round = read_first_round(self.records(), self.experiments, self.round_seconds)
        if first_round is None:
            return None
        return StageTimes(first_round, self.experiments, self.max_parallel, self.on_gpu)

    def measure_figures(self, measurements: Sequence[str], rounds: int) -> None:
        """Run measurements of extensions, each in every round for every experiment."""
        for round_, name in product(range(rounds), measurements):
            runs = [
                self.new_run(
                    "bench.orchestration.functions:measure_figures",
                    "figures",
                    experiment,
                    f"{name} of {experiment.name}, round {round_ + 1} of {rounds}",
                    name,
                    f"round{round_:02}",
                    is_distributed=get_measurement(name).runs_on_all_ranks,
                    measurement=name,
                    round_=round_,
                )
                for experiment in _rotate(self.experiments, round_)
            ]
            self.run_round(runs)
            if self.round_seconds is not None:
                self.runner.progress.expect(
                    (rounds - round_ - 1) * len(measurements) * self.round_seconds
                )

    def measure_memory(self, experiments: Sequence[Experiment] | None = None) -> None:
        """Measure the peak memory of every experiment, each in its own process, in parallel on a CPU."""
        runs = [
            self.new_run(
                "bench.measure.memory:measure_memory",
                "memory",
                experiment,
                f"memory of {experiment.name}",
                is_distributed=True,
            )
            for experiment in experiments or self.experiments
        ]
        self._run_parallel(runs)

    def find_largest_batches(self, limit_bytes: int) -> list[Experiment]:
        """Return the experiments at the largest batch that fits into a memory limit, without those that never fit.

        Each attempt is a separate process and is recorded. An attempt that fails other than out of memory ends the
        search for its experiment.
        """
        largest = list[Experiment]()
        memories = {record.experiment: record.measured for record in self.records()}
        for experiment in self.experiments:
            memory = memories.get(experiment)
            if not isinstance(memory, Memory):
                continue  # its memory run failed, which is recorded

            def fits(size: int, experiment: Experiment = experiment) -> bool:
                sized = with_batch_size(experiment, size)
                run = self.new_run(
                    "bench.orchestration.functions:try_batch",
                    "fit",
                    sized,
                    f"{experiment.name} at batch {size} in {limit_bytes / GIB:g} GiB",
                    is_distributed=True,
                    limit_bytes=limit_bytes,
                )
                self.runner.run([run], threads=self.cores)
                if not run.is_done:
                    raise _SearchFailed
                trial = read_record(run.path).measured
                return isinstance(trial, BatchTrial) and trial.fits

            guess = guess_batch_size(memory, experiment.training.batch_size, limit_bytes)
            try:
                size = find_largest_fitting(fits, guess, smallest_batch_to_try(experiment))
            except _SearchFailed:
                continue
            if size is not None:
                largest.append(with_batch_size(experiment, size))
        return largest

    def train(
        self,
        scope: Scope,
        images: int | None = None,
        checkpoint_config: CheckpointConfig | None = None,
    ) -> None:
        """Train every experiment for every seed, to the budgets of equal images and of equal device seconds.

        `images` are the equal images, by default those of the experiments. On a CPU the trainings run in parallel and
        share the cores: their result depends only on the images, and the seconds of a budget come from the speed
        records.
        """
        names = [experiment.name for experiment in self.experiments]
        speeds = measured_speeds(self.records(), names) if scope.equal_seconds else {}
        runs = list[Run]()
        for seed, experiment in product(scope.seeds, self.experiments):
            trained = change(
                experiment if images is None else set_images(experiment, images), seed=seed
            )
            budgets = image_budgets(
                trained, speeds, half_way=scope.half_way, processes=torchrun_env().world_size
            )
            run = self.new_run(
                "bench.orchestration.functions:pretrain",
                "training",
                trained,
                f"training of {experiment.name}, seed {seed}, {max(budgets.values()):,} images",
                is_distributed=True,
                budgets=budgets,
                checkpoint_config=checkpoint_config,
            )
            runs.append(structs.replace(run, saves_checkpoints=checkpoint_config is not None))
        self._run_parallel(runs)

    def score(self, scope: Scope) -> None:
        """Score every tower trained here, each seed's random-init baseline, and the reference features."""
        towers = list[ScoringSubject]()
        for record in self.records():
            if isinstance(record.measured, Training):
                towers += [
                    ScoringSubject(str(self.results / branch.tower))
                    for branch in record.measured.branches
                ]
        towers.sort()
        for protocols, tasks in scope.protocols_and_tasks:
            self.score_towers(towers, protocols, tasks, root=scope.root, baseline_seeds=scope.seeds)

    def score_towers(
        self,
        towers: Sequence[ScoringSubject],
        protocols: Sequence[str],
        tasks: Sequence[str],
        *,
        root: str = "",
        baseline_seeds: Sequence[int] = (),
    ) -> None:
        """Score towers, the reference features, and random-init baselines of these seeds, in parallel on a CPU."""
        baseline = ScoringSubject(RANDOM_INIT)
        subjects = [
            *towers,
            *map(ScoringSubject, installed_references()),
            *([baseline] if baseline_seeds else []),
        ]
        first_seed = baseline_seeds[0] if baseline_seeds else 0
        groups = [
            (subjects[first :: self.max_parallel], first_seed) for first in range(self.max_parallel)
        ]
        groups += [([baseline], seed) for seed in baseline_seeds[1:]]
        runs = list[Run]()
        for group, seed in groups:
            if group:
                experiment = change(self.experiments[0], seed=seed)
                place = self.results, self.name, experiment
                runs.append(scoring_run(*place, group, tasks, protocols, root=root))
        self._run_parallel(runs)

    def records(self) -> list[Record]:
        return read_records(self.results, self.name)

    def _run_parallel(self, runs: Sequence[Run]) -> None:
        max_parallel = max(1, min(self.max_parallel, len(runs)))
        self.runner.run(runs, max_parallel=max_parallel, threads=max(1, self.cores // max_parallel))


def _rotate(experiments: Sequence[Experiment], rotation: int) -> list[Experiment]:
    """Return the experiments rotated, and reversed in every other round, so that none always follows another one."""
    first = rotation % len(experiments)
    rotated = [*experiments[first:], *experiments[:first]]
    return rotated[::-1] if rotation % 2 else rotated
