"""The verbs `history` and `regress`: timings of the benchmark suites over commits."""

import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from bench.cli.options import Folder, Json
from bench.console.console import OK, escape_unprintable
from bench.console.options import ROUNDS_RANGE, require_option_in_range
from bench.console.tables import print_tables
from bench.environment.circumstances import CHECKOUT
from bench.features.history.commit_runs import (
    SUITE,
    checkout_work_tree,
    run_git,
    time_suites_in_rounds,
)
from bench.features.history.metric_diffs import (
    compare_metric_values,
    describe_unmatched_metrics,
    diff_table,
    verdict_exit_code,
)
from bench.measure.metric_values import read_metric_values

MAX_COMMITS = 8  # interleaved, in processes of about 1 GiB each
Repository = Annotated[
    Path, arg(metavar="FOLDER", help="top folder of the git repository whose commits are timed")
]
Suite = Annotated[
    Path,
    arg(
        metavar="PATH",
        help="folder or file with the pytest-benchmark tests that are timed, relative to the repository",
    ),
]
Selection = Annotated[
    str | None,
    arg(
        metavar="PYTEST-K-EXPRESSION",
        help='expression of pytest -k that selects benchmarks by name, such as "losses and not chunks"; default: all',
    ),
]


@dataclass(frozen=True, slots=True)
class TimeCommits:
    """Time the pytest-benchmark suite of the last commits, interleaved benchmark by benchmark.

    Eight commits take about 15 minutes. Each commit is checked out into a temporary work tree and runs in a fresh
    process with the packages of this environment.
    """

    # number of commits to time, from the newest back, at most 8
    commits: Annotated[Positional[int], arg(metavar="NUMBER")] = MAX_COMMITS
    repository: Repository = CHECKOUT
    benchmark_tests: Suite = SUITE
    rounds: int = 3  # number of rounds; each times every commit once, in a fresh process
    only_benchmarks: Selection = None
    # folder to which TIME/COMMIT/ROUND.json is added for each commit and round, as `report history` reads it
    json_folder: Folder = Path("results/history")

    def run(self) -> int:
        """Time the suites of the commits in turn, and store the documents."""
        require_option_in_range("commits", self.commits, 1, MAX_COMMITS)
        require_option_in_range("rounds", self.rounds, *ROUNDS_RANGE)
        log = ("log", "--first-parent", "--format=%H", f"--max-count={self.commits}")
        commits = reversed(run_git(self.repository, *log).splitlines())
        with ExitStack() as stack:
            trees = {}
            for commit in commits:
                checkout = checkout_work_tree(self.repository, commit, self.benchmark_tests)
                trees[commit[:12]] = stack.enter_context(checkout)
            folder = self.json_folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
            time_suites_in_rounds(
                trees, self.benchmark_tests, folder, self.rounds, self.only_benchmarks
            )
        return OK


@dataclass(frozen=True, slots=True)
class CompareWithBaseCommit:
    """Compare a work tree with a base commit in pairs of fresh processes, interleaved benchmark by benchmark.

    It takes about ten minutes. The exit code is 1 if a benchmark is slower by 2 % or more or a counter is worse, 4 if a
    figure is inconclusive, else 0. Documents are stored in RESULTS/regress, which is emptied first.
    """

    # commit with which the work tree is compared: a branch, a tag or a hash
    base: Annotated[Positional[str], arg(metavar="COMMIT")]
    repository: Repository = CHECKOUT
    benchmark_tests: Suite = SUITE
    # number of rounds; each times the work tree and the commit once, in fresh processes
    rounds: int = 8
    only_benchmarks: Selection = None
    # folder in whose subfolder `regress`, which is emptied first, the documents of pytest-benchmark are written
    results: Folder = Path("results")
    json: Json = None

    def run(self) -> int:
        """Time both sides interleaved, then print the verdicts."""
        require_option_in_range("rounds", self.rounds, *ROUNDS_RANGE)
        base = run_git(self.repository, "rev-parse", "--verify", f"{self.base}^{{commit}}")
        folder = self.results / "regress"
        shutil.rmtree(folder, ignore_errors=True)
        with checkout_work_tree(self.repository, base, self.benchmark_tests) as tree:
            trees = {"old": tree, "new": self.repository.absolute()}
            time_suites_in_rounds(
                trees, self.benchmark_tests, folder, self.rounds, self.only_benchmarks
            )
        damaged: list[str] = []
        old = read_metric_values([folder / "old"], damaged)
        new = read_metric_values([folder / "new"], damaged)
        notes = [f"left out: {escape_unprintable(error)}" for error in damaged]
        notes += [
            f"not compared: {escape_unprintable(name)}"
            for name in describe_unmatched_metrics(old, new)
        ]
        diff = ("diff", "--name-only", base, "--", str(self.benchmark_tests))
        changed_suites = run_git(self.repository, *diff)
        notes += [
            f"{file} differs: it may time different work on the two sides"
            for file in changed_suites.splitlines()
        ]
        diffs = compare_metric_values(old, new)
        print_tables([diff_table(diffs, notes)], self.json)
        return verdict_exit_code(diffs)
