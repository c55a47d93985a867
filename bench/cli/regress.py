"""The verb `regress`: tests whether a change of the code makes a benchmark slower or changes a counter."""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from bench.cli.options import Json, Results
from bench.console.console import printable_lines
from bench.console.exit_codes import FAILED_CASE
from bench.console.progress import Progress
from bench.console.tables import Table, print_tables
from bench.environment.commit import CHECKOUT
from bench.history.compared import (
    compare_observations,
    describe_none_worse,
    describe_worse,
    diff_table,
    exit_code,
    on_one_side,
)
from bench.history.figures import read_observations
from bench.orchestration.commit_runs import (
    PROCESS_SECONDS,
    checkout_work_tree,
    current_fingerprint,
    resolve_commit,
    run_git,
    time_suites,
)
from bench.statistics import MIN_ROUNDS


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
    resume_hint = "there is nothing to resume; the temporary work tree is removed"

    def run(self) -> int:
        """Time both sides interleaved, then print the verdicts."""
        if self.rounds < 1:
            raise ValueError(f"--rounds must be at least 1, got {self.rounds}")
        base, out = resolve_commit(CHECKOUT, self.base), self.results / "regress"
        changed = run_git(CHECKOUT, "diff", "--name-only", base, "--", "bench/suites").splitlines()
        shutil.rmtree(out, ignore_errors=True)
        if failed := self._measure(base, out):
            print("\n".join(f"error: {reason}" for reason in failed.values()), file=sys.stderr)
            return FAILED_CASE
        old, new = (read_observations([out / side]) for side in ("old", "new"))
        judged = compare_observations(old, new, paired=True)
        notes = [f"not compared: {name}" for name in on_one_side(old, new)]
        if self.rounds < MIN_ROUNDS:
            notes.append(f"no benchmark can be called slower or faster with fewer than {MIN_ROUNDS} rounds")
        notes += [f"{file} differs: it may time different work on the two sides" for file in changed]
        table = diff_table(judged, paired=True)
        print_tables([Table(table.title, table.rows, "\n".join([table.note, *notes]))], self.json)
        print(printable_lines("\n".join(describe_worse(judged) or [describe_none_worse(judged)])))
        return exit_code(judged)

    def _measure(self, base: str, out: Path) -> dict[Path, str]:
        """Store a document per side and round; return the reasons of failed suites by the document's path."""
        fingerprint, progress = current_fingerprint(), Progress(2 * PROCESS_SECONDS * self.rounds)
        with checkout_work_tree(CHECKOUT, base) as tree:
            for round_ in range(self.rounds):
                progress.started(f"round {round_ + 1} of {self.rounds}, old and new interleaved")
                sides = [("old", tree), ("new", CHECKOUT)][:: -1 if round_ % 2 else 1]
                trees = {out / side / f"{round_:02}.json": of_side for side, of_side in sides}
                if failed := time_suites(trees, fingerprint, self.only):
                    return failed
                progress.finished(2 * PROCESS_SECONDS)
        return {}
