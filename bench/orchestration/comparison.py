"""A comparison: rounds of speed runs, memory runs, trainings at equal budgets, scoring. No torch here."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, product
from math import fsum
from pathlib import Path
from typing import Any

from bench.console.console import log
from bench.console.progress import Progress
from bench.environment.busy_processes import BUSY_PROCESSES, find_busy_processes, undisturbed_threads
from bench.environment.cores import available_cores
from bench.environment.rank_info import torchrun_env
from bench.experiment.config import Experiment, change
from bench.experiment.settings import with_batch_size
from bench.interfaces.catalog import RANDOM_INIT, ScoringSubject, default_protocols, installed_references
from bench.orchestration.batch_search import find_largest_fitting, guess_batch_size, smallest_batch_to_try
from bench.orchestration.budgets import EQUAL_IMAGES, expected_speeds, image_budgets, measured_speeds, trained_images
from bench.orchestration.pace import TWO_CORES, Pace
from bench.orchestration.request_base import Request
from bench.orchestration.requests import (
    BatchTrialRequest,
    FiguresRequest,
    MemoryRequest,
    ScoringRequest,
    SpeedRequest,
    TraceRequest,
    TrainingRequest,
)
from bench.orchestration.runner import Job, Runner
from bench.orchestration.scope import Scope
from bench.records.record import BatchTrial, Memory, Record, Speed, Training, read_record, read_records
from bench.statistics.ratios import MIN_ROUNDS
from bench.tables.formats import GIB, join_words, pluralize
from bench.train.checkpoints import CheckpointConfig

EXPECTED_TRIALS = 5  # expected attempts until the largest batch is known
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

    @classmethod
    def for_planning(cls, experiments: Sequence[Experiment], pace: Pace) -> "Comparison":
        """Return a comparison whose runs are expected at a pace, and not carried out."""
        return cls("planned", Path(), experiments, available_cores(), pace.on_gpu, Runner(Progress(0.0)), pace)

    @property
    def max_parallel(self) -> int:
        """Return the number of parallel untimed runs: one per core, or one on a GPU and under torchrun."""
        return 1 if self.on_gpu or self.runner.coordinator is not None else self.cores

    def measure(self, scope: Scope, experiments: Sequence[Experiment] | None = None) -> None:
        """Time every experiment once per round, each in a fresh process with all cores.

        To meet the deadline, if shorter trainings do not help, fewer rounds than planned are run, at least five.
        """
        arms = experiments or self.experiments
        progress = self.runner.progress
        seconds, expected = fsum(map(self.pace.speed_run_seconds, arms)), self._expected_rounds(scope)
        progress.expect(
            expected * fsum(self.pace.speed_run_seconds(arm) for arm in arms if arm not in self.experiments)
        )
        half = self.experiments[0].training.images // 2
        savable = self._training_seconds(scope) - self._training_seconds(scope, images=half)
        recorded = (r.measured.round for r in self.records() if isinstance(r.measured, Speed))
        is_trained, round_ = bool(trained_images(self.records())), 0
        total = 1 + max(recorded, default=-1) if is_trained else scope.rounds
        while round_ < total:
            unneeded = seconds * (expected - round_ - 1) + (savable if round_ < scope.rounds else 0.0)
            if not is_trained and round_ >= MIN_ROUNDS and self._is_late(unneeded):
                log(f"to end in time: {round_} rounds in place of {total}")
                break
            self.run_round(self.jobs_of_round(arms, round_, total))
            round_ += 1
        progress.expect(seconds * (round_ - expected))

    def _is_late(self, saved_seconds: float = 0.0) -> bool:
        """Return whether a comparison that leaves no jobs would end late, without so many of the expected seconds."""
        end = time.monotonic() + self.runner.progress.seconds_left(saved_seconds)
        return not self.runner.skips_late_jobs and end > self.runner.deadline

    def _expected_rounds(self, scope: Scope) -> int:
        """Return the rounds."""
        return scope.rounds

    def run_round(self, jobs: Sequence[Job]) -> None:
        """Run a round: one run after the other on a GPU, interleaved by window on a CPU.

        A CPU's cores are often shared with other guests of its host; a GPU's memory holds only one run.
        """
        if self.on_gpu:
            self.runner.run(jobs, threads=self.cores)
        else:
            self.runner.run_interleaved(jobs, threads=self.timing_threads())

    def timing_threads(self) -> int:
        """Return the threads of timed runs on a CPU: as many as before, or as OMP_NUM_THREADS says, else of all cores.

        Cores that other processes keep busy all the time are left to them, because they would slow most steps.
        """
        recorded = [record for record in self.records() if isinstance(record.measured, Speed)]
        if recorded:
            os.environ[BUSY_PROCESSES] = recorded[0].circumstances.busy_processes
            return recorded[0].circumstances.threads
        chosen = os.environ.get("OMP_NUM_THREADS", "")
        if chosen.isdecimal() and int(chosen) > 0:
            return int(chosen)
        processes = find_busy_processes()
        threads = undisturbed_threads(self.cores, processes)
        if threads < self.cores:
            names = join_words([str(process) for process in processes])
            os.environ[BUSY_PROCESSES] = names
            log(f"timed with {pluralize(threads, 'thread')} in place of {self.cores}, because {names} kept a core busy")
        return threads

    def jobs_of_round(
        self,
        arms: Sequence[Experiment],
        round_: int,
        rounds: int | None = None,
        rotation: int | None = None,
        *,
        is_first: bool = False,
    ) -> list[Job]:
        """Return the speed runs of a round.

        `rotation` numbers the rounds of one kind where there are several kinds. No run of the arms was before it if the
        round `is_first`.
        """
        order = _rotated(arms, round_ if rotation is None else rotation)
        label = f"round {round_ + 1}" + (f" of {rounds}" if rounds else "")
        timed = [(one, self.pace.speed_run_seconds(one, is_first=is_first)) for one in order]
        return [
            self.new_job(SpeedRequest, one, f"speed of {one.name}, {label}", seconds, round=round_)
            for one, seconds in timed
        ]

    def figure_jobs(self, measurements: Sequence[str], rounds: int) -> list[list[Job]]:
        """Return the runs of each measurement in each round; a run is expected to take as long as one of speed."""
        return [
            [
                self.new_job(
                    FiguresRequest,
                    one,
                    f"{measurement} of {one.name}, round {round_ + 1} of {rounds}",
                    self.pace.speed_run_seconds(one, is_first=round_ == 0),
                    measurement=measurement,
                    round=round_,
                )
                for one in _rotated(self.experiments, round_)
            ]
            for round_ in range(rounds)
            for measurement in measurements
        ]

    @property
    def expected_search_seconds(self) -> float:
        """Return the expected seconds of `find_largest_batches`."""
        return EXPECTED_TRIALS * self.expected_trace_seconds

    @property
    def expected_trace_seconds(self) -> float:
        """Return the expected seconds of `trace`."""
        return fsum(map(self.pace.few_steps_seconds, self.experiments))

    def measure_memory(self, experiments: Sequence[Experiment] | None = None) -> None:
        """Measure the peak memory of every experiment, each in its own process, in parallel on a CPU."""
        self._run_parallel(self._memory_jobs(experiments or self.experiments))

    def find_largest_batches(self, limit_bytes: int) -> list[Experiment]:
        """Return the experiments at the largest batch that fits into a memory limit, without those that never fit.

        Each attempt is a separate process and is recorded. An attempt that fails other than out of memory ends the
        search for its experiment.
        """
        self.runner.progress.expect(self.expected_search_seconds)
        found = []
        memories = {r.experiment: r.measured for r in self.records() if isinstance(r.measured, Memory)}
        for experiment in self.experiments:
            if experiment not in memories:
                continue  # its memory run failed, which is recorded

            def fits(size: int, experiment: Experiment = experiment) -> bool:
                sized, limit = with_batch_size(experiment, size), limit_bytes / GIB
                label = f"{experiment.name} at batch {size} in {limit:g} GiB"
                seconds = self.pace.few_steps_seconds(experiment)
                job = self.new_job(BatchTrialRequest, sized, label, seconds, limit_bytes=limit_bytes)
                self.runner.run([job], threads=self.cores)
                if not job.is_done:
                    raise _SearchFailed
                fit = read_record(job.request.paths[0]).measured
                return isinstance(fit, BatchTrial) and fit.fits

            guess = guess_batch_size(memories[experiment], experiment.training.batch_size, limit_bytes)
            try:
                size = find_largest_fitting(fits, guess, smallest_batch_to_try(experiment))
            except _SearchFailed:
                continue
            if size is not None:
                found.append(with_batch_size(experiment, size))
        return found

    def trace(self) -> list[Path]:
        """Write a trace of a few steps of every experiment; return the files."""
        self.runner.progress.expect(self.expected_trace_seconds)
        named = [(one, self.pace.few_steps_seconds(one)) for one in self.experiments]
        jobs = [self.new_job(TraceRequest, one, f"trace of {one.name}", seconds) for one, seconds in named]
        self.runner.run(jobs, threads=self.cores)
        return [path for job in jobs for path in job.request.paths if path.is_file()]

    def train(self, scope: Scope, checkpoint_config: CheckpointConfig | None = None) -> None:
        """Train every experiment for every seed, to the budgets of equal images and of equal device seconds.

        On a CPU the trainings run in parallel and share the cores: their result depends only on the images, and the
        seconds of a budget come from the speed records.
        """
        names = [one.name for one in self.experiments]
        speeds = measured_speeds(self.records(), names) if scope.equal_seconds else {}
        images, as_planned = self._images_until_deadline(scope, speeds), self._training_seconds(scope)
        self.runner.progress.expect(self._training_seconds(scope, speeds, images) - as_planned)
        self._run_parallel(self._training_jobs(scope, speeds, images, checkpoint_config))

    def score(self, scope: Scope) -> None:
        """Score every tower trained here, each seed's random-init baseline, and the reference features."""
        trainings = [record.measured for record in self.records() if isinstance(record.measured, Training)]
        towers = sorted(str(self.results / branch.tower) for one in trainings for branch in one.branches)
        for protocols, tasks in _protocols_and_tasks(scope):
            subjects = [*map(ScoringSubject, towers)]
            self._run_parallel(self._scoring_jobs(subjects, scope.seeds, protocols, tasks, root=scope.root))

    def score_towers(self, towers: Subjects, protocols: Names, tasks: Names, **fields: Any) -> None:
        """Score towers and the reference features; `fields` are further ones of the request."""
        jobs = self._scoring_jobs(towers, (), protocols, tasks, **fields)
        self.runner.progress.expect(sum(job.expected_seconds for job in jobs))
        self._run_parallel(jobs)

    def scoring_seconds(self, num_towers: int, protocols: Names, tasks: Names) -> float:
        """Sum the expected seconds of the jobs of `score_towers`."""
        jobs = self._scoring_jobs([ScoringSubject(RANDOM_INIT)] * num_towers, (), protocols, tasks)
        return fsum(job.expected_seconds for job in jobs)

    def expected_seconds(self, scope: Scope, *, trained: bool = True) -> float:
        """Sum the expected seconds of the jobs of a whole comparison."""
        num_rounds = self._expected_rounds(scope)
        rounds = [self.jobs_of_round(self.experiments, round_, num_rounds) for round_ in range(num_rounds)]
        jobs = [*chain(*rounds), *(self._memory_jobs(self.experiments) if rounds else [])]
        if trained:
            # Each budget leaves a tower, but the slowest experiment's two budgets of equal size share one.
            towers = len(self.experiments) * (1 + scope.half_way + scope.equal_seconds) - scope.equal_seconds
            scored = [ScoringSubject(RANDOM_INIT)] * towers * len(scope.seeds)
            for protocols, tasks in _protocols_and_tasks(scope):
                jobs += self._scoring_jobs(scored, scope.seeds, protocols, tasks)
        return sum(job.expected_seconds for job in jobs) + (self._training_seconds(scope) if trained else 0.0)

    def records(self) -> list[Record]:
        return read_records(self.results, self.name)

    def _memory_jobs(self, experiments: Sequence[Experiment]) -> list[Job]:
        seconds = [self.pace.few_steps_seconds(one) / self.max_parallel for one in experiments]
        named = zip(experiments, seconds, strict=True)
        return [self.new_job(MemoryRequest, one, f"memory of {one.name}", expected) for one, expected in named]

    def _images_until_deadline(self, scope: Scope, speeds: Mapping[str, float]) -> int:
        """Return the images of every training, at least half of the planned ones, that end the comparison in time.

        After a training has ended, they are its images.
        """
        if trained := trained_images(self.records()):
            return min(trained)
        first, processes, as_planned = self.experiments[0], torchrun_env().world_size, self._training_seconds(scope)
        planned = image_budgets(first, {}, processes=processes)[EQUAL_IMAGES]
        sizes = range(planned, planned // 2 - 1, -first.training.batch_size * processes)
        fitting = (n for n in sizes if not self._is_late(as_planned - self._training_seconds(scope, speeds, n)))
        images = next(fitting, sizes[-1])
        if images < planned:
            log(f"to end in time: trainings on {images:,} images in place of {planned:,}")
        return images

    def _training_seconds(
        self, scope: Scope, speeds: Mapping[str, float] | None = None, images: int | None = None
    ) -> float:
        """Sum the expected seconds of trainings, by default at the speeds and on the images that are planned."""
        if speeds is None:
            speeds = expected_speeds(self.experiments) if scope.equal_seconds else {}
        return sum(job.expected_seconds for job in self._training_jobs(scope, speeds, images))

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
            budgets = image_budgets(experiment, speeds, images=images, half_way=scope.half_way, processes=processes)
            seconds = self.pace.training_seconds(experiment, budgets, num_parallel)
            label = f"training of {experiment.name}, seed {seed}, {max(budgets.values()):,} images"
            fields = {"budgets": budgets, "checkpoint_config": checkpoint_config}
            jobs.append(self.new_job(TrainingRequest, change(experiment, seed=seed), label, seconds, **fields))
        return jobs

    def _scoring_jobs(
        self, towers: Subjects, seeds: Sequence[int], protocols: Names, tasks: Names, **fields: Any
    ) -> list[Job]:
        """Return runs that share the subjects and the first seed's baseline, and one for each further baseline."""
        baseline, max_parallel = [ScoringSubject(RANDOM_INIT)], self.max_parallel
        subjects = [*towers, *map(ScoringSubject, installed_references()), *(baseline if seeds else [])]
        groups = [(subjects[first::max_parallel], seeds[0] if seeds else 0) for first in range(max_parallel)]
        jobs, fields = [], fields | {"protocols": protocols, "tasks": tasks}
        for group, seed in [*groups, *((baseline, seed) for seed in seeds[1:])]:
            if group:
                experiment = change(self.experiments[0], seed=seed)
                seconds = self.pace.scoring_seconds(len(group), len(tasks), protocols) / max_parallel
                label = f"scoring of {len(group)} towers"
                jobs.append(self.new_job(ScoringRequest, experiment, label, seconds, subjects=tuple(group), **fields))
        return jobs

    def new_job(self, kind: type[Request], experiment: Experiment, label: str, seconds: float, **fields: Any) -> Job:
        """Return a run of this comparison; `fields` are the request's other fields."""
        request = kind(results=str(self.results), comparison=self.name, experiment=experiment, **fields)
        return Job(request, label, seconds)

    def _run_parallel(self, jobs: Sequence[Job]) -> None:
        max_parallel = max(1, min(self.max_parallel, len(jobs)))
        self.runner.run(jobs, max_parallel=max_parallel, threads=max(1, self.cores // max_parallel))


def _rotated(arms: Sequence[Experiment], rotation: int) -> list[Experiment]:
    """Return the arms rotated, and reversed in every other round, so that none always follows the same other one."""
    first = rotation % len(arms)
    return [*arms[first:], *arms[:first]][:: -1 if rotation % 2 else 1]


def _protocols_and_tasks(scope: Scope) -> list[tuple[Names, Names]]:
    """Return the protocols and the tasks that a scope scores: whole tasks, and curves over few labels."""
    pairs = ((default_protocols(), scope.tasks), (scope.curves, scope.curve_tasks))
    return [(protocols, tasks) for protocols, tasks in pairs if protocols and tasks]
