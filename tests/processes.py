"""Processes that tests start: groups as those of a torchrun, single calls and runs, and waiting for what they do."""

import io
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import psutil
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from bench.data import loader_workers
from bench.environment.torchrun_ranks import TORCHRUN_VARIABLES, read_torchrun_ranks
from bench.orchestration import preflight
from bench.orchestration.runner import Runner, TimeSlotSockets
from bench.orchestration.runs import (
    FunctionRun,
    decode_run_from_json,
    execute_run_and_write_record,
    log_and_describe_failure,
)

if TYPE_CHECKING:
    import subprocess

T = TypeVar("T")
PRELOAD = loader_workers.FORKSERVER_PRELOAD
loader_workers.FORKSERVER_PRELOAD = ["tests.preloaded"]  # one process for workers and tests
# After which a test that waits has hung; no law depends on it, however busy the machine.
LONGEST_SECONDS = 1200


def wait_until(holds: Callable[[], T], running: "subprocess.Popen[Any] | None" = None) -> T:
    """Return what `holds` returns as soon as it is true; TimeoutError where the process ends first or nothing comes."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while not (found := holds()):
        if time.monotonic() > deadline:
            raise TimeoutError("waited in vain")
        if running is not None and running.poll() is not None:
            raise TimeoutError(
                f"the process ended with {running.returncode} before: {running.communicate()}"
            )
        time.sleep(0.02)
    return found


def run_of(parent: int, label: str) -> list[psutil.Process]:
    """Return the run with this label that a command line has started, in a list; an empty one while there is none."""
    found = []
    for child in psutil.Process(parent).children():
        with suppress(psutil.Error):  # it has ended meanwhile
            found += [child] if any(word.startswith(label) for word in child.cmdline()) else []
    return found


def have_ended(processes: list[psutil.Process], seconds: float = 120.0) -> bool:
    """Whether all of the processes end, which are given that long on a busy machine."""
    return not psutil.wait_procs(processes, timeout=seconds)[1]


def forkserver() -> Any:
    """Return the context of processes that fork from one which has imported everything."""
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(loader_workers.FORKSERVER_PRELOAD)
    return context


def started(work: Callable[..., None], *arguments: Any) -> mp.Process:
    """Return a process that carries out `work(*arguments)`, already running."""
    process = forkserver().Process(target=work, args=arguments)
    process.start()
    return process


def in_child(work: Callable[..., T], *arguments: Any) -> T:
    """Return what `work(*arguments)` returns in a process of its own, which limits and failures do not outlive."""
    with ProcessPoolExecutor(1, mp_context=forkserver()) as pool:
        return pool.submit(work, *arguments).result()


def answer(folder: Path, *words: str) -> tuple[int, str]:
    """Return exit code and text of a command line and its runs in one process, without the imports of fresh ones.

    What it loads ends with its process.
    """
    return in_child(answered, folder, words)


def answered(folder: Path, words: Sequence[str]) -> tuple[int, str]:
    """Return exit code and text of a command line and its runs in this process, which then ends."""
    from bench.__main__ import main

    os.chdir(folder)
    torch.set_num_threads(1)
    preflight.Runner = InProcess
    with redirect_stdout(io.StringIO()) as text, redirect_stderr(text):
        try:
            code = main(words)
        except SystemExit as end:
            code = int(end.code or 0)
    return code, text.getvalue()


def free_port() -> int:
    """Return the number of a port that no process of this machine listens on."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def start_ranks(ranks: int, folder: Path, *words: str) -> list[mp.Process]:
    """Start the command line of each of so many ranks, as torchrun does; what it prints goes to FOLDER/RANK.log."""
    port = free_port()
    return [
        started(_be_rank, rank, ranks, port, folder / f"{rank}.log", words) for rank in range(ranks)
    ]


def _be_rank(rank: int, ranks: int, port: int, log: Path, words: Sequence[str]) -> None:
    from bench.__main__ import main

    values = map(str, (rank, ranks, rank, ranks, "localhost", port))
    os.environ |= dict(zip(TORCHRUN_VARIABLES, values, strict=True))
    read_torchrun_ranks.cache_clear()
    with log.open("w") as text, redirect_stdout(text), redirect_stderr(text):
        code = main(words)
    sys.exit(code)


def in_ranks(work: Callable[..., T], ranks: int, folder: Path, *arguments: Any) -> list[T]:
    """Return what `work(rank, ranks, *arguments)` returns in each of so many processes, joined by gloo."""
    forkserver()  # sets what is imported before the processes of `start_processes` part
    given = (work, ranks, str(folder), arguments)
    running = mp.start_processes(_joined, given, ranks, join=False, start_method="forkserver")
    deadline = time.monotonic() + LONGEST_SECONDS
    while not running.join(timeout=1):
        if time.monotonic() > deadline:
            for process in running.processes:
                process.kill()
            raise TimeoutError(f"{work.__name__} hangs")
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(ranks)]


def _joined(
    rank: int, work: Callable[..., Any], ranks: int, folder: str, arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo"}
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=ranks
    )
    torch.save(work(rank, ranks, *arguments), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


class InProcess(Runner):
    """Executes runs in this process: what a fresh one does, without its start, each whole in its first turn."""

    def _execute_and_return_failure_reason(
        self, run: FunctionRun, _settings: dict[str, str], slot: TimeSlotSockets | None = None
    ) -> str:
        if slot:
            slot.run.recv(1)
        try:
            execute_run_and_write_record(decode_run_from_json(run.encode_as_json()))
        except Exception as error:  # noqa: BLE001 - as a worker answers it
            return log_and_describe_failure(error)
        return ""


class Parting(Runner):
    """Executes each run in a process of its own, without the seconds that a fresh one imports for."""

    def _execute_and_return_failure_reason(
        self, run: FunctionRun, _settings: dict[str, str], _slot: TimeSlotSockets | None = None
    ) -> str:
        reasons = forkserver().SimpleQueue()
        process = started(_execute, run.encode_as_json(), reasons)
        process.join()
        if not process.exitcode:
            return ""
        return f"ended with exit code {process.exitcode}" if reasons.empty() else str(reasons.get())


def _execute(run: str, reasons: Any) -> None:
    torch.set_num_threads(1)
    try:
        execute_run_and_write_record(decode_run_from_json(run))
    except Exception as error:
        reasons.put(log_and_describe_failure(error))
        raise
