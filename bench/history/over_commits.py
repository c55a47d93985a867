"""The verb `history`: the suites of a repository's last commits, for `python -m reports history` to draw."""

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tyro.conf import Positional

from bench.command_line import FAILED_CASE, OK
from bench.commit import CHECKOUT
from bench.history.commit_runs import (
    PROCESS_SECONDS,
    FailedSuitesError,
    fingerprint_here,
    git,
    in_turns,
    last_commits,
    time_suites,
    work_tree,
)
from bench.progress import Progress


@dataclass(frozen=True, slots=True)
class History:
    """Time the suites of the last commits in turn, a fresh process each; eight commits take about ten minutes.

    Each is checked out into a scratch work tree that is gone afterwards; the packages are those of this environment.
    """

    commits: Positional[int] = 8
    repository: Path = CHECKOUT
    rounds: int = 3  # of every commit once: drift of the machine hits all of them
    only: str | None = None  # the parts whose name holds this, as pytest's -k
    out: Path = Path("results/history")  # the documents are added to those that lie there
    how_to_go_on = "finished documents are kept, scratch work trees are removed"

    def run(self) -> int:
        """Time them, and say which commits' suites failed."""
        if self.commits < 1 or self.rounds < 1:
            raise ValueError(f"commits and --rounds must be at least 1, got {self.commits} and {self.rounds}")
        commits, fingerprint = last_commits(self.repository, self.commits), fingerprint_here()
        stamp, failed = f"{datetime.now(UTC):%Y%m%dT%H%M%S}", set[str]()
        turns = in_turns(commits, self.rounds)
        progress = Progress(PROCESS_SECONDS * len(turns))
        with ExitStack() as stack:
            trees = {commit: stack.enter_context(work_tree(self.repository, commit)) for commit in commits}
            for round_, commit in turns:
                subject = git(self.repository, "log", "-1", "--format=%s", commit)
                if commit in failed:
                    progress.skipped(PROCESS_SECONDS)
                    continue
                progress.started(f"{commit[:8]}, round {round_ + 1} of {self.rounds}: {subject}")
                try:
                    path = self.out / f"{commit[:12]}-{stamp}-{round_:02}.json"
                    time_suites(trees[commit], path, fingerprint, self.only)
                except FailedSuitesError as error:
                    print(f"error: {error}", file=sys.stderr)
                    failed.add(commit)
                progress.finished(PROCESS_SECONDS)
        return FAILED_CASE if failed else OK
