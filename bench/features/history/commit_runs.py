"""Timing of the suites of several commits, interleaved, in temporary work trees and fresh processes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from socket import socketpair
from tempfile import TemporaryDirectory
from typing import Any

from bench.console.console import log
from bench.console.progress import RunProgressLog
from bench.environment.child_processes import kill_child_tree_at_block_end
from bench.environment.circumstances import CHECKOUT
from bench.environment.files import atomic_write
from bench.measure.metric_values import FINGERPRINT
from bench.orchestration.runner import TimeSlotSockets, grant_time_slots_in_turn

PLUGIN = Path(__file__).parent / "plugin" / "suites_in_turn.py"
PYTEST = [
    sys.executable,
    "-m",
    "pytest",
    "-q",
    "-p",
    PLUGIN.stem,
    "-p",
    "no:randomly",  # equal order in every tree
    "-p",
    "no:cacheprovider",  # which writes into the tree
    # At most 0.25 s per benchmark after three warm-up rounds: a process takes half a minute.
    "--benchmark-warmup=on",
    "--benchmark-warmup-iterations=3",
    "--benchmark-min-rounds=3",
    "--benchmark-max-time=0.25",
]
CHILD_ENV = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
SUITE = Path("bench/suites")  # of this project
LINES_SHOWN = 15  # of the output of failed suites


def run_git(repository: Path, *arguments: str) -> str:
    """Return the output of a git command in a repository; ValueError with its error message."""
    command = ["git", "-C", str(repository), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


@contextmanager
def checkout_work_tree(repository: Path, commit: str, suite: Path) -> Iterator[Path]:
    """Check out a commit into a temporary work tree, which is removed when the block ends.

    Raises ValueError if it has no `suite`, a path within the repository.
    """
    try:
        with TemporaryDirectory(prefix="catlip-bench-") as folder:
            tree = Path(folder) / commit[:12]
            run_git(repository, "worktree", "add", "--quiet", "--detach", str(tree), commit)
            if not (tree / suite).exists():
                raise ValueError(
                    f"{commit[:12]} of {repository} has no {suite}: name its benchmarks with --benchmark-tests PATH"
                )
            yield tree
    finally:
        run_git(repository, "worktree", "prune")


def time_suites_in_rounds(
    work_trees: Mapping[str, Path], suite: Path, folder: Path, num_rounds: int, only: str | None
) -> None:
    """Time the suite of each work tree once per round, and store the documents as FOLDER/NAME/ROUND.json.

    `work_trees` are by name, `suite` is the path in each of them, and `only` selects benchmarks as pytest's -k. Raises
    ValueError where a suite fails.
    """
    progress = RunProgressLog()
    fingerprint = read_machine_fingerprint()
    for round_ in range(num_rounds):
        progress.log_run_start(f"round {round_ + 1} of {num_rounds}: {', '.join(work_trees)}")
        start = datetime.now(UTC)
        names = list(work_trees)
        if round_ % 2:
            names.reverse()
        documents = time_suites_once({name: work_trees[name] for name in names}, suite, only)
        for name, document in documents.items():
            document["turn"] = f"{start:%Y%m%dT%H%M%S.%f}"
            save_benchmark_document_with_fingerprint(
                document, folder / name / f"{round_:02}.json", fingerprint
            )
        seconds = (datetime.now(UTC) - start).total_seconds()
        progress.set_remaining_seconds((num_rounds - round_ - 1) * seconds)


def time_suites_once(
    work_trees: Mapping[str, Path], suite: Path, only: str | None = None
) -> dict[str, dict[str, Any]]:
    """Run the suite of each work tree in a process of its own, interleaved benchmark by benchmark.

    Return pytest-benchmark's document of each work tree by name. Raises ValueError where a suite fails, after the last
    lines of its output. All processes hold their memory, about 1 GiB each, at once.
    """
    documents = {}
    with TemporaryDirectory() as folder, ExitStack() as stack:
        slots = [TimeSlotSockets(*socketpair()) for _ in work_trees]
        children = {}
        for (name, work_tree), slot in zip(work_trees.items(), slots, strict=True):
            child = _start_suite(work_tree, suite, Path(folder) / name, slot, only)
            stack.enter_context(kill_child_tree_at_block_end(child))
            children[name] = child
        grant_time_slots_in_turn(slots)
        for name, child in children.items():
            code = child.wait()
            document = Path(folder, name, "suite.json")
            if code or not document.is_file() or not document.stat().st_size:
                output = Path(folder, name, "output").read_text(errors="replace")
                last_lines = output.splitlines()[-LINES_SHOWN:]
                log("\n".join(last_lines))
                raise ValueError(f"the suite of {name} failed or timed nothing: exit code {code}")
            documents[name] = json.loads(document.read_bytes())
    return documents


def _start_suite(
    work_tree: Path, suite: Path, folder: Path, slot: TimeSlotSockets, only: str | None
) -> "subprocess.Popen[bytes]":
    """Start pytest on a work tree's suite, which waits for its first slot after it has collected its benchmarks.

    It writes `suite.json` and `output` into the new folder.
    """
    folder.mkdir()
    command = [*PYTEST, str(work_tree / suite), f"--benchmark-json={folder / 'suite.json'}"]
    if only:
        command += ["-k", only]
    # The tree's packages stand before installed ones of another commit; pytest adds the tree itself.
    paths = [str(PLUGIN.parent), str(work_tree / "src")]
    if os.environ.get("PYTHONPATH"):
        paths.append(os.environ["PYTHONPATH"])
    environment = os.environ | CHILD_ENV | slot.environment_variable
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    with (folder / "output").open("wb") as output, slot.run:
        return subprocess.Popen(
            command,
            cwd=work_tree,
            env=environment,
            pass_fds=[slot.run.fileno()],
            stdout=output,
            stderr=output,
        )


def save_benchmark_document_with_fingerprint(
    document: dict[str, Any], path: Path, fingerprint: str
) -> None:
    """Write a document of pytest-benchmark with this machine's fingerprint, without the seconds of single rounds.

    Comparisons are over processes and use the statistics of a process's rounds. The document is changed.
    """
    document["machine_info"] = {FINGERPRINT: fingerprint}
    for benchmark in document["benchmarks"]:
        benchmark["stats"].pop("data", None)
    with atomic_write(path) as part:
        part.write_text(json.dumps(document, indent=1, allow_nan=False))


def read_machine_fingerprint() -> str:
    """Return the fingerprint of this machine, from a separate process because it imports torch."""
    command = [sys.executable, "-m", "bench.records.current"]
    environment = os.environ | CHILD_ENV
    done = subprocess.run(
        command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
