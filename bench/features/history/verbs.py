"""The verbs `history` and `regress`: timings of the benchmark suites over commits."""

import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tyro.conf import Positional

from bench.cli.options import Json, Results
from bench.console.console import FAILED_CASE, OK, escape_unprintable_lines, log
from bench.console.options import ROUNDS_RANGE, require_range
from bench.console.progress import Progress
from bench.console.tables import print_tables
from bench.environment.circumstances import CHECKOUT
from bench.features.history.commit_runs import (
    checkout_work_tree,
    current_fingerprint,
    last_commits,
    resolve_commit,
    run_git,
    time_suites,
)
from bench.features.history.metric_diffs import (
    compare_observations,
    describe_diffs,
    describe_unmatched_metrics,
    diff_table,
    verdict_exit_code,
)
from bench.measure.observations import read_observations
from bench.statistics.ratios import MIN_ROUNDS

MAX_COMMITS = 10_000
MAX_INTERLEAVED = 8  # commits interleaved at a time, in processes of about 1 GiB each


@dataclass(frozen=True, slots=True)
class History:
    """Time the benchmark suites of the last commits, interleaved benchmark by benchmark.

    Eight commits take about 15 minutes. Each commit is checked out into a temporary work tree and runs in a fresh
    process with the packages of this environment.
    """

    commits: Positional[int] = 8  # number of commits, the newest last
    repository: Path = CHECKOUT  # folder of the git repository
    rounds: int = 3  # number of rounds; each round times every commit once, so that machine drift affects all alike
    only: str | None = None  # substring of the names of the benchmarks to run, as pytest's -k
    out: Path = Path("results/history")  # folder to which the benchmark documents are added

    def run(self) -> int:
        """Time the suites, and report the commits whose suites failed."""
        require_range("commits", self.commits, 1, MAX_COMMITS)
        require_range("rounds", self.rounds, *ROUNDS_RANGE)
        commits = last_commits(self.repository, self.commits)
        fingerprint = current_fingerprint()
        stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
        progress = Progress()
        start = time.monotonic()
        failed = set[str]()
        with ExitStack() as stack:
            trees = {
                commit: stack.enter_context(checkout_work_tree(self.repository, commit))
                for commit in commits
            }
            for round_ in range(self.rounds):
                for first in range(0, len(commits), MAX_INTERLEAVED):
                    group = commits[first : first + MAX_INTERLEAVED]
                    if round_ % 2:
                        group.reverse()
                    progress.log_start(
                        f"round {round_ + 1} of {self.rounds}: {', '.join(name[:8] for name in group)}"
                    )
                    working = [commit for commit in group if commit not in failed]
                    documents = [
                        self.out / f"{commit[:12]}-{stamp}-{round_:02}.json" for commit in working
                    ]
                    reasons = time_suites(
                        [trees[commit] for commit in working], documents, fingerprint, self.only
                    )
                    for commit, reason in zip(working, reasons, strict=True):
                        if reason:
                            log(f"error: {reason}")
                            failed.add(commit)
                progress.expect((time.monotonic() - start) * (self.rounds / (round_ + 1) - 1))
        return FAILED_CASE if failed else OK


@dataclass(frozen=True, slots=True)
class Regress:
    """Compare this work tree with a base commit in pairs of fresh processes, interleaved benchmark by benchmark.

    It takes about ten minutes. The exit code is 1 if a benchmark is slower by 2 % or more or a counter is worse, 4 if a
    figure is inconclusive, else 0. Documents are stored in RESULTS/regress, which is emptied first.
    """

    base: Positional[str]  # commit to compare with, as a git revision
    rounds: int = 8  # number of rounds; each round runs one process per side
    only: str | None = None  # substring of the names of the benchmarks to run, as pytest's -k
    results: Results = Path("results")
    json: Json = None

    def run(self) -> int:
        """Time both sides interleaved, then print the verdicts."""
        require_range("rounds", self.rounds, *ROUNDS_RANGE)
        base = resolve_commit(CHECKOUT, self.base)
        folder = self.results / "regress"
        shutil.rmtree(folder, ignore_errors=True)
        reasons = self._time_sides(base, folder)
        for reason in reasons:
            log(f"error: {reason}")
        if reasons:
            return FAILED_CASE
        old = read_observations([folder / "old"])
        new = read_observations([folder / "new"])
        notes = [f"not compared: {name}" for name in describe_unmatched_metrics(old, new)]
        if self.rounds < MIN_ROUNDS:
            notes.append(
                f"no benchmark can be called slower or faster with fewer than {MIN_ROUNDS} rounds"
            )
        changed_files = run_git(
            CHECKOUT, "diff", "--name-only", base, "--", "bench/suites"
        ).splitlines()
        notes += [
            f"{file} differs: it may time different work on the two sides" for file in changed_files
        ]
        diffs = compare_observations(old, new, paired=True)
        print_tables([diff_table(diffs, notes, paired=True)], self.json)
        print(escape_unprintable_lines(describe_diffs(diffs)))
        return verdict_exit_code(diffs)

    def _time_sides(self, base: str, folder: Path) -> list[str]:
        """Store a document per side and round; return the reasons of failed suites."""
        fingerprint = current_fingerprint()
        progress = Progress()
        start = time.monotonic()
        with checkout_work_tree(CHECKOUT, base) as tree:
            for round_ in range(self.rounds):
                progress.log_start(f"round {round_ + 1} of {self.rounds}, old and new interleaved")
                trees = [tree, CHECKOUT]
                documents = [folder / side / f"{round_:02}.json" for side in ("old", "new")]
                if round_ % 2:
                    trees.reverse()
                    documents.reverse()
                reasons = [
                    reason
                    for reason in time_suites(trees, documents, fingerprint, self.only)
                    if reason
                ]
                if reasons:
                    return reasons
                progress.expect((time.monotonic() - start) * (self.rounds / (round_ + 1) - 1))
        return []
