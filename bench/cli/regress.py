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
from bench.console.tables import Table, show
from bench.environment.commit import CHECKOUT
from bench.history.compared import compared, compared_table, ended, on_one_side, told_none, told_worse
from bench.history.figures import read_figures
from bench.orchestration.commit_runs import PROCESS_SECONDS, commit_named, fingerprint_here, git, time_suites, work_tree
from bench.statistics import FEWEST_ROUNDS


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
    how_to_go_on = "there is nothing to resume; the temporary work tree is removed"

    def run(self) -> int:
        """Time both sides interleaved, then print the verdicts."""
        if self.rounds < 1:
            raise ValueError(f"--rounds must be at least 1, got {self.rounds}")
        base, out = commit_named(CHECKOUT, self.base), self.results / "regress"
        changed = git(CHECKOUT, "diff", "--name-only", base, "--", "bench/suites").splitlines()
        shutil.rmtree(out, ignore_errors=True)
        if failed := self._measure(base, out):
            print("\n".join(f"error: {reason}" for reason in failed.values()), file=sys.stderr)
            return FAILED_CASE
        old, new = (read_figures([out / side]) for side in ("old", "new"))
        judged = compared(old, new, paired=True)
        notes = [f"not compared: {name}" for name in on_one_side(old, new)]
        if self.rounds < FEWEST_ROUNDS:
            notes.append(f"no benchmark can be called slower or faster with fewer than {FEWEST_ROUNDS} rounds")
        notes += [f"{file} differs: it may time different work on the two sides" for file in changed]
        table = compared_table(judged, paired=True)
        show([Table(table.title, table.rows, "\n".join([table.note, *notes]))], self.json)
        print(printable_lines("\n".join(told_worse(judged) or [told_none(judged)])))
        return ended(judged)

    def _measure(self, base: str, out: Path) -> dict[Path, str]:
        """Store a document per side and round; return the reasons of failed suites by the document's path."""
        fingerprint, progress = fingerprint_here(), Progress(2 * PROCESS_SECONDS * self.rounds)
        with work_tree(CHECKOUT, base) as tree:
            for round_ in range(self.rounds):
                progress.started(f"round {round_ + 1} of {self.rounds}, old and new interleaved")
                sides = [("old", tree), ("new", CHECKOUT)][:: -1 if round_ % 2 else 1]
                trees = {out / side / f"{round_:02}.json": of_side for side, of_side in sides}
                if failed := time_suites(trees, fingerprint, self.only):
                    return failed
                progress.finished(2 * PROCESS_SECONDS)
        return {}
