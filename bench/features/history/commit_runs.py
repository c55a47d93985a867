"""Timing of the suites of several commits, interleaved, in temporary work trees and fresh processes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.environment.circumstances import CHECKOUT
from bench.environment.files import atomic_write
from bench.measure.observations import FINGERPRINT
from bench.orchestration.runner import Slot, round_robin

PLUGIN = Path(__file__).parent / "plugin" / "suites_in_turn.py"
# Equal order in every tree.
PYTEST_OPTIONS = [
    "-q",
    "-m",
    "not minutes",
    "-p",
    PLUGIN.stem,
    "-p",
    "no:randomly",
]
# At most 0.25 s per benchmark after three warm-up rounds: a process takes half a minute.
BENCHMARK_OPTIONS = [
    "--benchmark-warmup=on",
    "--benchmark-warmup-iterations=3",
    "--benchmark-min-rounds=3",
    "--benchmark-max-time=0.25",
]
CHILD_ENV = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
LINES_SHOWN = 15  # of the output of failed suites


def run_git(repository: Path, *arguments: str) -> str:
    """Return the output of git; ValueError with its error message."""
    command = ["git", "-C", str(repository), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def resolve_commit(repository: Path, name: str) -> str:
    """Return the commit of a git revision; ValueError if there is none."""
    try:
        return run_git(repository, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    except ValueError:
        raise ValueError(f"{repository} has no commit {name!r}") from None


def last_commits(repository: Path, count: int) -> list[str]:
    """Return the last commits of the current branch, oldest first, along first parents."""
    return run_git(
        repository, "log", "--first-parent", "--format=%H", f"--max-count={count}"
    ).splitlines()[::-1]


@contextmanager
def checkout_work_tree(repository: Path, commit: str) -> Iterator[Path]:
    """Check out a commit into a temporary folder, which is removed when the block ends."""
    try:
        with TemporaryDirectory(prefix="catlip-bench-") as folder:
            tree = Path(folder) / commit[:12]
            run_git(repository, "worktree", "add", "--quiet", "--detach", str(tree), commit)
            yield tree
    finally:
        run_git(repository, "worktree", "prune")


def time_suites(
    trees: Sequence[Path], documents: Sequence[Path], fingerprint: str, only: str | None
) -> list[str]:
    """Run each tree's suites once in a process of its own, interleaved benchmark by benchmark.

    Each tree's document is written to the path in `documents`. Return the reason why a tree's suites failed, or "". All
    processes hold their memory, about 1 GiB each, at once.
    """
    turn = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
    with TemporaryDirectory() as folder:
        slots = [Slot.create() for _ in trees]
        runs: list[_SuitesRun] = []
        try:
            for number, (tree, slot) in enumerate(zip(trees, slots, strict=True)):
                runs.append(_SuitesRun(tree, Path(folder) / str(number), slot, only))
            round_robin(slots)
        except BaseException:
            for run in runs:
                run.process.kill()
                run.process.wait()
            raise
        reasons = [run.failure_reason() for run in runs]
        for run, path, reason in zip(runs, documents, reasons, strict=True):
            if not reason:
                save_document(run.document_path, path, fingerprint, turn)
        return reasons


def save_document(measured: Path, path: Path, fingerprint: str, turn: str) -> None:
    """Store a document with the machine and the turn, without the seconds of single rounds.

    Comparisons are over processes and use the statistics of a process's rounds.
    """
    document = json.loads(measured.read_bytes())
    document["turn"] = turn
    document.setdefault("machine_info", {})[FINGERPRINT] = fingerprint
    document["machine_info"].get("cpu", {}).pop("flags", None)
    for benchmark in document["benchmarks"]:
        benchmark["stats"].pop("data", None)
    with atomic_write(path) as part:
        part.write_text(json.dumps(document, indent=1, allow_nan=False))


class _SuitesRun:
    """A process of one tree's suites, which waits for its first slot after collecting its benchmarks."""

    def __init__(self, tree: Path, scratch: Path, slot: Slot, only: str | None) -> None:
        scratch.mkdir()
        self.tree = tree
        self.document_path = scratch / "suites.json"
        self.output_path = scratch / "output"
        # The pack is decoded once per tree.
        (tree / "results" / "cache").mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "bench/suites",
            *PYTEST_OPTIONS,
            *BENCHMARK_OPTIONS,
        ]
        command.append(f"--benchmark-json={self.document_path}")
        if only:
            command += ["-k", only]
        path = os.pathsep.join(filter(None, (str(PLUGIN.parent), os.environ.get("PYTHONPATH"))))
        environment = os.environ | CHILD_ENV | slot.environment | {"PYTHONPATH": path}
        with self.output_path.open("wb") as output, closing(slot):
            self.process = subprocess.Popen(
                command,
                cwd=tree,
                env=environment,
                pass_fds=slot.child_fds,
                stdout=output,
                stderr=output,
            )

    def failure_reason(self) -> str:
        """Wait for the process; return the last lines of its output if it failed or measured nothing, else ""."""
        if (
            not self.process.wait()
            and self.document_path.is_file()
            and self.document_path.stat().st_size
        ):
            return ""
        last_lines = "\n".join(
            self.output_path.read_text(errors="replace").splitlines()[-LINES_SHOWN:]
        )
        return f"the suites of {self.tree.name} failed with exit code {self.process.returncode}:\n{last_lines}"


@cache
def current_fingerprint() -> str:
    """Return the fingerprint of this machine, from a separate process because it imports torch."""
    command = [sys.executable, "-m", "bench.records.current"]
    done = subprocess.run(
        command,
        cwd=CHECKOUT,
        env=os.environ | CHILD_ENV,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()
