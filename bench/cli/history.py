"""The verb `history`: timings of the benchmark suites over the last commits, drawn by `python -m reports history`."""

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tyro.conf import Positional

from bench.console.exit_codes import FAILED_CASE, OK
from bench.console.progress import Progress
from bench.environment.commit import CHECKOUT
from bench.orchestration.commit_runs import (
    PROCESS_SECONDS,
    checkout_work_tree,
    current_fingerprint,
    last_commits,
    time_suites,
)

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
    resume_hint = "documents of finished rounds are kept, temporary work trees are removed"

    def run(self) -> int:
        """Time the suites, and report the commits whose suites failed."""
        if self.commits < 1 or self.rounds < 1:
            raise ValueError(f"commits and --rounds must be at least 1, got {self.commits} and {self.rounds}")
        commits, fingerprint = last_commits(self.repository, self.commits), current_fingerprint()
        stamp, failed = f"{datetime.now(UTC):%Y%m%dT%H%M%S}", set[str]()
        progress = Progress(PROCESS_SECONDS * len(commits) * self.rounds)
        with ExitStack() as stack:
            trees = {commit: stack.enter_context(checkout_work_tree(self.repository, commit)) for commit in commits}
            for round_ in range(self.rounds):
                for first in range(0, len(commits), MAX_INTERLEAVED):
                    group = commits[first : first + MAX_INTERLEAVED][:: -1 if round_ % 2 else 1]
                    progress.started(f"round {round_ + 1} of {self.rounds}: {', '.join(one[:8] for one in group)}")
                    names = {one: f"{one[:12]}-{stamp}-{round_:02}.json" for one in group if one not in failed}
                    paths = {self.out / name: one for one, name in names.items()}
                    reasons = time_suites({path: trees[one] for path, one in paths.items()}, fingerprint, self.only)
                    for path, reason in reasons.items():
                        print(f"error: {reason}", file=sys.stderr)
                        failed.add(paths[path])
                    progress.finished(PROCESS_SECONDS * len(group))
        return FAILED_CASE if failed else OK
