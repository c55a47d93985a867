"""The suites of several commits, timed in turn: scratch work trees that are gone afterwards, a fresh process each."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.commit import CHECKOUT
from bench.history.suite_documents import keep

# Of a part .4 s of rounds after three of warm-up, so that a process takes a little over half a minute.
BUDGET = (
    "--benchmark-warmup=on",
    "--benchmark-warmup-iterations=3",
    "--benchmark-min-rounds=5",
    "--benchmark-max-time=0.4",
)
SETTINGS = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
PROCESS_SECONDS = 30.0  # a guess for two cores, corrected as processes end
LINES_TOLD = 15  # of the output of suites that failed


class FailedSuitesError(Exception):
    """A process of the suites failed."""


def git(repository: Path, *arguments: str) -> str:
    """Return what git prints; ValueError says what it complains of."""
    command = ["git", "-C", str(repository), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def commit_named(repository: Path, name: str) -> str:
    """Return the commit that a name means; ValueError where there is none."""
    try:
        return git(repository, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    except ValueError:
        raise ValueError(f"{repository} has no commit {name!r}") from None


def last_commits(repository: Path, count: int) -> list[str]:
    """Return so many commits of the branch checked out, oldest first; of a merge its first parent."""
    return git(repository, "log", "--first-parent", "--format=%H", f"--max-count={count}").splitlines()[::-1]


@contextmanager
def work_tree(repository: Path, commit: str) -> Iterator[Path]:
    """Check out a commit into a scratch folder; when the block ends, however it ends, it is gone."""
    try:
        with TemporaryDirectory(prefix="catlip-bench-") as folder:
            tree = Path(folder) / commit[:12]
            git(repository, "worktree", "add", "--quiet", "--detach", str(tree), commit)
            (tree / "results" / "cache").mkdir(parents=True)  # the pack is decoded once a tree
            yield tree
    finally:
        git(repository, "worktree", "prune")


def time_suites(tree: Path, out: Path, fingerprint: str, only: str | None = None) -> None:
    """Run a tree's suites once and keep their document at `out`; FailedSuitesError tells the end of what they say."""
    with TemporaryDirectory() as folder:
        measured = Path(folder) / "suites.json"
        command = [sys.executable, "-m", "pytest", "bench/suites", "-q", "-m", "not minutes", *BUDGET]
        command += [f"--benchmark-json={measured}", *(["-k", only] if only else [])]
        done = subprocess.run(
            command, cwd=tree, env=os.environ | SETTINGS, capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode or not measured.is_file() or not measured.stat().st_size:
            last = "\n".join((done.stdout + done.stderr).splitlines()[-LINES_TOLD:])
            raise FailedSuitesError(f"the suites of {tree.name} ended with {done.returncode}:\n{last}")
        keep(measured, out, fingerprint)


def fingerprint_here() -> str:
    """Return what speeds depend on here beside the code, as a process of its own says, for torch is not imported."""
    command = [sys.executable, "-m", "bench.machine"]
    done = subprocess.run(command, cwd=CHECKOUT, env=os.environ | SETTINGS, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def in_turns(sides: Sequence[str], rounds: int) -> list[tuple[int, str]]:
    """Return (round, side): each round every side once, each other round backwards, so that drift falls out."""
    return [(round_, side) for round_ in range(rounds) for side in sides[:: -1 if round_ % 2 else 1]]
