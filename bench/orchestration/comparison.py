"""A comparison: rounds of speed runs, memory runs, trainings at equal budgets, scoring. No torch here."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path
from statistics import median
from typing import Any

from msgspec.structs import replace

from bench.catalog import CURVE_TASK, DEFAULT_PROTOCOLS, RANDOM_INIT, REFERENCES, ScoringSubject
from bench.config import Experiment
from bench.console.console import log
from bench.environment.rank_info import torchrun_env
from bench.measure.disturbance import find_disturbance
from bench.measure.throughput import throughputs_by_round
from bench.orchestration.batch_search import find_largest_fitting, guess_batch_size, smallest_batch_to_try
from bench.orchestration.budgets import EQUAL_IMAGES, expected_speeds, image_budgets
from bench.orchestration.pace import MIN_IMAGES, TWO_CORES, Pace
from bench.orchestration.requests import (
    AnyRequest,
    FitRequest,
    MemoryRequest,
    ScoringRequest,
    SpeedRequest,
    TraceRequest,
    TrainingRequest,
)
from bench.orchestration.runner import Job, Runner
from bench.orchestration.scope import Scope
from bench.record import BatchTrial, Memory, Record, Training, read_record, read_records
from bench.settings import with_batch_size
from bench.statistics import median_ratio_interval
from bench.train.checkpoints import CheckpointConfig

MAX_INTERVAL_RATIO = 1.5  # maximum ratio of an interval's ends to derive a budget from it
EXPECTED_TRIALS = 5  # expected attempts until the largest batch is known
GIB = 2**30
Subjects = Sequence[ScoringSubject]
Names = tuple[str, ...]


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
    pace: Pace = TWO_CORES
    # in seconds of time.monotonic(): lest it ends later, no more rounds are repeated, and trainings are shortened
    deadline: float = math.inf

    @property
    def max_parallel(self) -> int:
        """Return the number of parallel untimed runs: one per core, or one on a GPU and under torchrun."""
        return 1 if self.on_gpu or self.runner.coordinator is not None else self.cores

    def measure(self, scope: Scope, experiments: Sequence[Experiment] | None = None) -> None:
        """Time every experiment once per round, each in a fresh process with all cores.

        If the scope says so, disturbed rounds are repeated, but none that would end the comparison after its deadline.
        """
        arms = experiments or self.experiments
        names, progress = {arm.name for arm in arms}, self.runner.progress
        seconds = sum(map(self.pace.speed_seconds, arms))
        expected = self._expected_rounds(scope)
        progress.expect(expected * sum(self.pace.speed_seconds(arm) for arm in arms if arm not in self.experiments))
        round_, total = 0, scope.rounds
        while round_ < total:
            self.run_round(self.jobs_of_round(arms, round_, total))
            round_ += 1
            if scope.repeats_disturbed and round_ >= scope.rounds:
                disturbed = len(find_disturbance(self.records(), names).disturbed_rounds)
                total = max(round_, scope.rounds + min(disturbed, scope.max_repeated_rounds))
                progress.expect(seconds * (total - expected))
                while total > round_ and time.monotonic() + progress.seconds_left() > self.deadline:
                    total -= 1
                    progress.expect(-seconds)
                expected = total

    def _expected_rounds(self, scope: Scope) -> int:
        """Return the rounds with those that are expected to be repeated: a fifth on a CPU, whose cores are shared."""
        return scope.rounds + (0 if self.on_gpu else min(scope.rounds // 5, scope.max_repeated_rounds))

    def run_round(self, jobs: Sequence[Job]) -> None:
        """Run a round: one run after the other on a GPU, interleaved by window on a CPU.

        A CPU's cores are often shared with other guests of its host; a GPU's memory holds only one run.
        """
        (self.runner.run if self.on_gpu else self.runner.run_interleaved)(jobs, threads=self.cores)

    def jobs_of_round(
        self, arms: Sequence[Experiment], round_: int, rounds: int | None = None, rotation: int | None = None
    ) -> list[Job]:
        """Return the speed runs of a round.

        The order is rotated, and reversed in every other round, so that no run always follows the same other run;
        `rotation` numbers the rounds of one kind where there are several kinds.
        """
        rotation = round_ if rotation is None else rotation
        first = rotation % len(arms)
        order = [*arms[first:], *arms[:first]][:: -1 if rotation % 2 else 1]
        label = f"round {round_ + 1}" + (f" of {rounds}" if rounds else "")
        return [
            self.new_job(SpeedRequest, one, f"speed of {one.name}, {label}", self.pace.speed_seconds(one), round=round_)
            for one in order
        ]

    def measure_memory(self, experiments: Sequence[Experiment] | None = None) -> None:
        """Measure the peak memory of every experiment, each in its own process, in parallel on a CPU."""
        self._run_parallel(self._memory_jobs(experiments or self.experiments))

    def find_largest_batches(self, limit_bytes: int) -> list[Experiment]:
        """Return the experiments at the largest batch that fits into a memory limit, without those that never fit.

        Each attempt is a separate process and is recorded. An attempt that fails other than out of memory ends the
        search for its experiment.
        """
        self.runner.progress.expect(len(self.experiments) * EXPECTED_TRIALS * self.pace.few_steps_seconds)
        found = []
        memories = {r.experiment: r.measured for r in self.records() if isinstance(r.measured, Memory)}
        for experiment in self.experiments:
            if experiment not in memories:
                continue  # its memory run failed, which is recorded

            def fits(size: int, experiment: Experiment = experiment) -> bool:
                sized, limit = with_batch_size(experiment, size), limit_bytes / GIB
                label = f"{experiment.name} at batch {size} in {limit:g} GiB"
                job = self.new_job(FitRequest, sized, label, self.pace.few_steps_seconds, limit_bytes=limit_bytes)
                self.runner.run([job], threads=self.cores)
                if not job.is_done:
                    raise _SearchFailed
                fit = read_record(job.request.paths[0]).measured
                return isinstance(fit, BatchTrial) and fit.fits

            guess = guess_batch_size(memories[experiment], experiment.batch_size, limit_bytes)
            try:
                size = find_largest_fitting(fits, guess, smallest_batch_to_try(experiment))
            except _SearchFailed:
                continue
            if size is not None:
                found.append(with_batch_size(experiment, size))
        return found

    def trace(self) -> list[Path]:
        """Write a trace of a few steps of every experiment; return the files."""
        seconds = self.pace.few_steps_seconds
        self.runner.progress.expect(len(self.experiments) * seconds)
        jobs = [self.new_job(TraceRequest, one, f"trace of {one.name}", seconds) for one in self.experiments]
        self.runner.run(jobs, threads=self.cores)
        return [path for job in jobs for path in job.request.paths if path.is_file()]

    def train(self, scope: Scope, checkpoint_config: CheckpointConfig | None = None) -> None:
        """Train every experiment for every seed, to the budgets of equal images and of equal device seconds.

        On a CPU the trainings run in parallel and share the cores: their result depends only on the images, and the
        seconds of a budget come from the speed records.
        """
        speeds = self._throughputs() if scope.equal_seconds else {}
        images = self._images_until_deadline(scope, speeds)
        self._run_parallel(self._training_jobs(scope, speeds, images, checkpoint_config))

    def score(self, scope: Scope, protocols: Names = DEFAULT_PROTOCOLS) -> None:
        """Score every tower trained here, each seed's random-init baseline, and the reference features."""
        towers = sorted(map(str, self.results.glob(f"{self.name}.tower.*.safetensors")))
        self._run_parallel(self._scoring_jobs([*map(ScoringSubject, towers)], scope.seeds, protocols, scope.tasks))

    def score_towers(self, towers: Subjects, protocols: Names, tasks: Names, **fields: Any) -> None:
        """Score towers and the reference features; `fields` are further ones of the request."""
        jobs = self._scoring_jobs(towers, (), protocols, tasks, **fields)
        self.runner.progress.expect(sum(job.expected_seconds for job in jobs))
        self._run_parallel(jobs)

    def expected_seconds(self, scope: Scope, *, trained: bool = True) -> float:
        """Sum the expected seconds of the jobs of a whole comparison, on two cores at the tiny scale."""
        num_rounds = self._expected_rounds(scope)
        rounds = [self.jobs_of_round(self.experiments, round_, num_rounds) for round_ in range(num_rounds)]
        jobs = [*chain(*rounds), *(self._memory_jobs(self.experiments) if rounds else [])]
        if trained:
            jobs += self._training_jobs(scope, expected_speeds(self.experiments) if scope.equal_seconds else {})
            # Each budget leaves a tower, but the slowest experiment's two budgets of equal size share one.
            towers = len(self.experiments) * (1 + scope.half_way + scope.equal_seconds) - scope.equal_seconds
            scored = [ScoringSubject(RANDOM_INIT)] * towers * len(scope.seeds)
            for protocols, tasks in ((DEFAULT_PROTOCOLS, scope.tasks), (scope.curves, (CURVE_TASK,))):
                jobs += self._scoring_jobs(scored, scope.seeds, protocols, tasks) if protocols and tasks else []
        return sum(job.expected_seconds for job in jobs)

    def records(self) -> list[Record]:
        """Read the records that exist."""
        return read_records(self.results, self.name)

    def _throughputs(self) -> dict[str, float]:
        """Return the images per second of each experiment; nothing if they are too uncertain to derive a budget."""
        records = self.records()
        found = find_disturbance(records, [one.name for one in self.experiments])
        rates = throughputs_by_round(records)
        if not rates:
            return {}
        if not found.allows_verdicts:
            log("no budget of equal device seconds: the machine was disturbed in too many rounds")
            return {}
        rates = {name: {k: runs[k] for k in runs.keys() - found.excluded_rounds} for name, runs in rates.items()}
        slowest = min(rates, key=lambda name: median(rates[name].values()))
        others = {name: median_ratio_interval(rates[slowest], rates[name]) for name in rates if name != slowest}
        uncertain = [name for name, ends in others.items() if ends is None or ends[1] > MAX_INTERVAL_RATIO * ends[0]]
        if uncertain:
            log(
                f"no budget of equal device seconds: the ends of the interval of {', '.join(uncertain)} lie more than "
                f"{MAX_INTERVAL_RATIO} times apart (a busy machine, or too few rounds)"
            )
            return {}
        return {name: median(runs.values()) for name, runs in rates.items()}

    def _memory_jobs(self, experiments: Sequence[Experiment]) -> list[Job]:
        seconds = self.pace.few_steps_seconds / self.max_parallel
        return [self.new_job(MemoryRequest, one, f"memory of {one.name}", seconds) for one in experiments]

    def _images_until_deadline(self, scope: Scope, speeds: Mapping[str, float]) -> int | None:
        """Return the images of every training that end the comparison by its deadline; None: those of the experiments.

        They are fewer where the machine became slower after the plan was made. A resumed comparison keeps the images of
        the trainings that have ended.
        """
        first, progress = self.experiments[0], self.runner.progress
        planned = image_budgets(first, {}, processes=torchrun_env().world_size)[EQUAL_IMAGES]
        trainings = (record.measured for record in self.records() if isinstance(record.measured, Training))
        trained: set[int] = {
            one.images for training in trainings for one in training.branches if EQUAL_IMAGES in one.budgets
        }
        if trained:
            return None if trained == {planned} else min(trained)
        planned_speeds = expected_speeds(self.experiments) if scope.equal_seconds else {}
        expected = sum(job.expected_seconds for job in self._training_jobs(scope, planned_speeds))
        whole = 2 * first.batch_size  # so that half of the images are whole batches, too
        images: int | None
        for images in (None, *range(planned // whole * whole - whole, MIN_IMAGES, -whole)):
            seconds = sum(job.expected_seconds for job in self._training_jobs(scope, speeds, images))
            progress.expect(seconds - expected)
            if time.monotonic() + progress.seconds_left() <= self.deadline:
                break
            expected = seconds
        if images is not None:
            log(f"this machine is slower than planned: trainings on {images:,} images in place of {planned:,}")
        return images

    def _training_jobs(
        self,
        scope: Scope,
        speeds: Mapping[str, float],
        images: int | None = None,
        checkpoint_config: CheckpointConfig | None = None,
    ) -> list[Job]:
        jobs, processes = [], torchrun_env().world_size
        num_parallel = min(self.max_parallel, len(scope.seeds) * len(self.experiments))
        for seed, experiment in product(scope.seeds, self.experiments):
            trained = experiment if images is None else replace(experiment, images=images)
            budgets = image_budgets(trained, speeds, half_way=scope.half_way, processes=processes)
            seconds = self.pace.training_seconds(experiment, budgets, num_parallel)
            label = f"training of {experiment.name}, seed {seed}, {max(budgets.values()):,} images"
            fields = {"budgets": budgets, "checkpoint_config": checkpoint_config}
            jobs.append(self.new_job(TrainingRequest, replace(experiment, seed=seed), label, seconds, **fields))
        return jobs

    def _scoring_jobs(
        self, towers: Subjects, seeds: Sequence[int], protocols: Names, tasks: Names, **fields: Any
    ) -> list[Job]:
        """Return runs that share the subjects and the first seed's baseline, and one for each further baseline."""
        baseline, max_parallel = [ScoringSubject(RANDOM_INIT)], self.max_parallel
        subjects = [*towers, *map(ScoringSubject, REFERENCES), *(baseline if seeds else [])]
        groups = [(subjects[first::max_parallel], seeds[0] if seeds else 0) for first in range(max_parallel)]
        jobs, fields = [], fields | {"protocols": protocols, "tasks": tasks}
        for group, seed in [*groups, *((baseline, seed) for seed in seeds[1:])]:
            if group:
                experiment = replace(self.experiments[0], seed=seed)
                seconds = self.pace.scoring_seconds(len(group), len(tasks), protocols) / max_parallel
                label = f"scoring of {len(group)} towers"
                jobs.append(self.new_job(ScoringRequest, experiment, label, seconds, subjects=tuple(group), **fields))
        return jobs

    def new_job(self, kind: type[AnyRequest], experiment: Experiment, label: str, seconds: float, **fields: Any) -> Job:
        """Return a run of this comparison; `fields` are the request's other fields."""
        request = kind(results=str(self.results), comparison=self.name, experiment=experiment, **fields)
        return Job(request, label, seconds)

    def _run_parallel(self, jobs: Sequence[Job]) -> None:
        max_parallel = max(1, min(self.max_parallel, len(jobs)))
        self.runner.run(jobs, max_parallel=max_parallel, threads=max(1, self.cores // max_parallel))
