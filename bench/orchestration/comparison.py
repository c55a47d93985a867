"""A comparison: rounds of speed runs, memory runs, trainings at equal budgets, scoring. No torch here."""

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from bench.console.console import UserError, log
from bench.environment.busy_processes import (
    BUSY_PROCESSES,
    count_undisturbed_threads,
    find_busy_processes,
)
from bench.environment.torchrun_ranks import read_torchrun_ranks
from bench.experiment.config import Experiment, change
from bench.interfaces.catalog import (
    RANDOM_INIT,
    TowerOrFeaturesToScore,
    list_reference_feature_names,
)
from bench.interfaces.measurement import get_measurement
from bench.measure.throughput import timed_runs_by_experiment
from bench.orchestration.budgets import (
    image_budgets,
    read_relative_speeds,
    with_training_images_and_short_warmup,
)
from bench.orchestration.runner import Runner
from bench.orchestration.runs import FunctionRun
from bench.orchestration.scope import ComparisonScope
from bench.orchestration.scoring import make_scoring_run
from bench.orchestration.stages import RemainingStageTimes, estimate_remaining_stage_times
from bench.records.record import (
    Failure,
    Record,
    Speed,
    StepFlops,
    Training,
    read_records,
    record_path,
)
from bench.tables.formats import format_count_with_noun, join_with_and
from bench.train.checkpoints import CheckpointConfig


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
        """The number of parallel untimed runs: one per core, or one on a GPU and over several processes."""
        is_single = self.on_gpu or self.runner.launch or read_torchrun_ranks().world_size > 1
        return 1 if is_single else self.cores

    def records(self) -> list[Record]:
        """Read the records of this comparison."""
        return read_records(self.results, self.name)

    def new_run(
        self,
        function: str,
        kind: str,
        experiment: Experiment,
        label: str,
        *names: object,
        is_distributed: bool = False,
        saves_checkpoints: bool = False,
        **arguments: Any,
    ) -> FunctionRun:
        """Return a run of this comparison: a "module:function" that is called with the arguments.

        Its file is named by its kind, the experiment, the seed and `names`.
        """
        seed = f"seed{experiment.seed}"
        path = record_path(self.results, self.name, kind, experiment.name, seed, *names)
        return FunctionRun(
            function=function,
            label=label,
            results=str(self.results),
            comparison=self.name,
            experiment=experiment,
            files=(str(path),),
            arguments=arguments,
            is_distributed=is_distributed,
            saves_checkpoints=saves_checkpoints,
        )

    def measure_speed(self, rounds: range) -> None:
        """Time every experiment once in each of the rounds, which count from 0, each in a fresh process.

        UserError if the runs of an experiment would fail again.
        """
        for round_ in rounds:
            self._require_no_repeated_failure()
            num_rounds_left = None if rounds.start else rounds.stop - round_ - 1
            self.run_round(self.make_speed_runs(round_, rounds.stop), num_rounds_left)

    def run_round(self, runs: Sequence[FunctionRun], num_rounds_left: int | None) -> None:
        """Run a round: interleaved by window on a CPU without a launcher, else one run after the other.

        A CPU's cores are often shared with other work; a GPU's memory may hold only one run. The progress then shows
        the time of the rounds that are left, each as long as this one; None: it stays as it is.
        """
        is_new = not any(run.is_done for run in runs)
        start = time.monotonic()
        if self.on_gpu or self.runner.launch:
            threads = self.cores if self.on_gpu else self.choose_timing_threads()
            self.runner.run(runs, threads=threads)
        else:
            self.runner.run_interleaved(runs, threads=self.choose_timing_threads())
        if is_new:
            self.round_seconds = time.monotonic() - start
            if num_rounds_left is not None:
                self.runner.progress.set_remaining_seconds(num_rounds_left * self.round_seconds)

    def _require_no_repeated_failure(self) -> None:
        """Raise UserError if runs of an experiment failed twice for one reason, and none was timed."""
        records = self.records()
        timed = timed_runs_by_experiment(records)
        failures = Counter(
            (record.experiment_name, record.measured.reason)
            for record in records
            if isinstance(record.measured, Failure)
        )
        for (name, reason), number in failures.items():
            if number > 1 and name not in timed:
                raise UserError(f"no further round, every run would fail: {name}: {reason}")

    def choose_timing_threads(self) -> int:
        """Return the threads of timed runs on a CPU: as in recorded runs, else OMP_NUM_THREADS, else one a core.

        Cores that other processes keep busy all the time are left to them, because they would slow most steps. The
        processes are logged, and named to the runs in an environment variable, for their records.
        """
        for record in self.records():
            if isinstance(record.measured, Speed):
                os.environ[BUSY_PROCESSES] = record.circumstances.busy_processes
                return record.circumstances.threads
        chosen = os.environ.get("OMP_NUM_THREADS", "")
        if chosen.isdecimal() and int(chosen) > 0:
            return int(chosen)
        processes = find_busy_processes()
        threads = count_undisturbed_threads(self.cores, processes)
        if threads < self.cores:
            names = join_with_and([str(process) for process in processes])
            os.environ[BUSY_PROCESSES] = names
            timed = f"{format_count_with_noun(threads, 'thread')} in place of {self.cores}"
            log(f"timed with {timed}, because {names} kept a core busy")
        return threads

    def make_speed_runs(self, round_: int, num_rounds: int) -> list[FunctionRun]:
        """Return the speed runs of a round, of `num_rounds` in all."""
        flops = self._flops_of_first_round() if round_ else {}
        runs = list[FunctionRun]()
        for experiment in _rotate_and_reverse_for_round(self.experiments, round_):
            run = self.new_run(
                "bench.measure.speed:measure_speed",
                "speed",
                experiment,
                f"speed of {experiment.name}, round {round_ + 1} of {num_rounds}",
                f"round{round_:02}",
                is_distributed=True,
                round_=round_,
                flops=flops.get(experiment.name),
            )
            runs.append(run)
        return runs

    def _flops_of_first_round(self) -> dict[str, StepFlops]:
        """Return the FLOPs that the first round counted, by experiment; {} on a GPU, whose heating moves the steps."""
        if self.on_gpu:
            return {}
        timed = timed_runs_by_experiment(self.records())
        return {
            name: runs[0].speed.flops for name, runs in timed.items() if runs[0].speed.round == 0
        }

    def estimate_remaining_stage_times(self) -> RemainingStageTimes | None:
        """Return the expected times after the first round; None if a run of it failed."""
        return estimate_remaining_stage_times(
            self.records(), len(self.experiments), self.max_parallel, self.round_seconds
        )

    def measure_extension_values(self, measurements: Sequence[str], num_rounds: int) -> None:
        """Run measurements of extensions, each in every round for every experiment."""
        for round_, name in product(range(num_rounds), measurements):
            runs = [
                self.new_run(
                    "bench.orchestration.functions:measure_extension_values",
                    "figures",
                    experiment,
                    f"{name} of {experiment.name}, round {round_ + 1} of {num_rounds}",
                    name,
                    f"round{round_:02}",
                    is_distributed=get_measurement(name).runs_on_all_ranks,
                    measurement=name,
                    round_=round_,
                )
                for experiment in _rotate_and_reverse_for_round(self.experiments, round_)
            ]
            self.run_round(runs, (num_rounds - round_ - 1) * len(measurements))

    def measure_memory(self) -> None:
        """Measure the peak memory of every experiment, each in its own process, in parallel on a CPU."""
        runs = [
            self.new_run(
                "bench.measure.memory:measure_memory",
                "memory",
                experiment,
                f"memory of {experiment.name}",
                is_distributed=True,
            )
            for experiment in self.experiments
        ]
        self.run_parallel(runs)

    def train_towers(
        self, scope: ComparisonScope, checkpoint_config: CheckpointConfig | None = None
    ) -> None:
        """Train every experiment for every seed, to the budgets of equal images and of equal device seconds.

        On a CPU the trainings run in parallel and share the cores: their result depends only on the images, and the
        seconds of a budget come from the speed records.
        """
        names = [experiment.name for experiment in self.experiments]
        speeds = read_relative_speeds(self.records(), names) if scope.equal_seconds else {}
        processes = read_torchrun_ranks().world_size
        runs = list[FunctionRun]()
        for seed, experiment in product(scope.seeds, self.experiments):
            trained = change(experiment, seed=seed)
            if scope.images is not None:
                trained = with_training_images_and_short_warmup(trained, scope.images)
            budgets = image_budgets(trained, speeds, half_way=scope.half_way, processes=processes)
            run = self.new_run(
                "bench.orchestration.functions:pretrain",
                "training",
                trained,
                f"training of {experiment.name}, seed {seed}, {max(budgets.values()):,} images",
                is_distributed=True,
                saves_checkpoints=checkpoint_config is not None,
                images_by_budget=budgets,
                checkpoint_config=checkpoint_config,
            )
            runs.append(run)
        self.run_parallel(runs)

    def score_trained_towers(self, scope: ComparisonScope) -> None:
        """Score every tower trained here, each seed's random-init baseline, and the reference features."""
        towers = sorted(
            str(self.results / branch.tower)
            for record in self.records()
            if isinstance(record.measured, Training)
            for branch in record.measured.branches
        )
        subjects = [TowerOrFeaturesToScore(tower) for tower in towers]
        for protocols, tasks in scope.protocols_and_tasks:
            self.score_towers(
                subjects, protocols, tasks, root=scope.root, baseline_seeds=scope.seeds
            )

    def score_towers(
        self,
        towers: Sequence[TowerOrFeaturesToScore],
        protocols: Sequence[str],
        tasks: Sequence[str],
        *,
        root: str = "",
        baseline_seeds: Sequence[int] = (),
    ) -> None:
        """Score towers, the reference features, and random-init baselines of these seeds, in parallel on a CPU."""
        baseline = TowerOrFeaturesToScore(RANDOM_INIT)
        subjects = [*towers, *map(TowerOrFeaturesToScore, list_reference_feature_names())]
        seeds = baseline_seeds or [0]
        if baseline_seeds:
            subjects.append(baseline)
        groups = [
            (subjects[first :: self.max_parallel], seeds[0]) for first in range(self.max_parallel)
        ]
        groups += [([baseline], seed) for seed in seeds[1:]]
        runs = [
            make_scoring_run(
                self.results,
                self.name,
                change(self.experiments[0], seed=seed),
                group,
                tasks,
                protocols,
                root=root,
            )
            for group, seed in groups
            if group
        ]
        self.run_parallel(runs)

    def run_parallel(self, runs: Sequence[FunctionRun]) -> None:
        """Execute untimed runs in parallel, which share the cores."""
        max_parallel = max(1, min(self.max_parallel, len(runs)))
        self.runner.run(runs, max_parallel=max_parallel, threads=max(1, self.cores // max_parallel))


def _rotate_and_reverse_for_round(
    experiments: Sequence[Experiment], round_: int
) -> list[Experiment]:
    """Return the experiments rotated, and reversed in every other round, so that none always follows another one."""
    first = round_ % len(experiments)
    rotated = [*experiments[first:], *experiments[:first]]
    return rotated[::-1] if round_ % 2 else rotated
