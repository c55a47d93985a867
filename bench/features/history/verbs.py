"""The verbs `history` and `regress`: timings of the benchmark suites over commits."""

import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from tyro.conf import Positional

from bench.cli.options import Json, Results
from bench.console.console import FAILED_CASE, OK, escape_unprintable_lines, log
from bench.console.options import MAX_ECHOED_CHARACTERS, ROUNDS_RANGE, require_range
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
    purpose: ClassVar[str] = "check"
    resume_hint = "documents of finished rounds are kept, temporary work trees are removed"

    def run(self) -> int:
        """Time the suites, and report the commits whose suites failed."""
        if not 1 <= self.commits <= MAX_COMMITS:
            raise ValueError(
                f"commits must be from 1 to {MAX_COMMITS}, got {str(self.commits)[:MAX_ECHOED_CHARACTERS]}"
            )
        require_range("rounds", self.rounds, *ROUNDS_RANGE)
        commits, fingerprint = last_commits(self.repository, self.commits), current_fingerprint()
        stamp, failed = f"{datetime.now(UTC):%Y%m%dT%H%M%S}", set[str]()
        progress, start = Progress(), time.monotonic()
        with ExitStack() as stack:
            trees = {commit: stack.enter_context(checkout_work_tree(self.repository, commit)) for commit in commits}
            for round_ in range(self.rounds):
                for first in range(0, len(commits), MAX_INTERLEAVED):
                    group = commits[first : first + MAX_INTERLEAVED][:: -1 if round_ % 2 else 1]
                    progress.log_start(f"round {round_ + 1} of {self.rounds}: {', '.join(one[:8] for one in group)}")
                    names = {f"{one[:12]}-{stamp}-{round_:02}.json": one for one in group if one not in failed}
                    documents = {self.out / name: trees[one] for name, one in names.items()}
                    for path, reason in time_suites(documents, fingerprint, self.only).items():
                        log(f"error: {reason}")
                        failed.add(names[path.name])
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
    purpose: ClassVar[str] = "check"
    resume_hint = "there is nothing to resume; the temporary work tree is removed"

    def run(self) -> int:
        """Time both sides interleaved, then print the verdicts."""
        require_range("rounds", self.rounds, *ROUNDS_RANGE)
        base, out = resolve_commit(CHECKOUT, self.base), self.results / "regress"
        changed = run_git(CHECKOUT, "diff", "--name-only", base, "--", "bench/suites").splitlines()
        shutil.rmtree(out, ignore_errors=True)
        if failed := self._time_sides(base, out):
            for reason in failed.values():
                log(f"error: {reason}")
            return FAILED_CASE
        old, new = (read_observations([out / side]) for side in ("old", "new"))
        judged = compare_observations(old, new, paired=True)
        notes = [f"not compared: {name}" for name in describe_unmatched_metrics(old, new)]
        if self.rounds < MIN_ROUNDS:
            notes.append(f"no benchmark can be called slower or faster with fewer than {MIN_ROUNDS} rounds")
        notes += [f"{file} differs: it may time different work on the two sides" for file in changed]
        print_tables([diff_table(judged, notes, paired=True)], self.json)
        print(escape_unprintable_lines(describe_diffs(judged)))
        return verdict_exit_code(judged)

    def _time_sides(self, base: str, out: Path) -> dict[Path, str]:
        """Store a document per side and round; return the reasons of failed suites by the document's path."""
        fingerprint, progress, start = current_fingerprint(), Progress(), time.monotonic()
        with checkout_work_tree(CHECKOUT, base) as tree:
            for round_ in range(self.rounds):
                progress.log_start(f"round {round_ + 1} of {self.rounds}, old and new interleaved")
                sides = [("old", tree), ("new", CHECKOUT)][:: -1 if round_ % 2 else 1]
                documents = {out / side / f"{round_:02}.json": side_tree for side, side_tree in sides}
                if failed := time_suites(documents, fingerprint, self.only):
                    return failed
                progress.expect((time.monotonic() - start) * (self.rounds / (round_ + 1) - 1))
        return {}
