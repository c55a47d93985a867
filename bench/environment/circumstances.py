"""The circumstances of a run, as its record stores them, and the commit of this project. No torch here."""

import os
import subprocess
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import msgspec

from bench.environment.cores import count_available_cores
from bench.environment.gpu_settings import GpuSettings, format_gpu_settings
from bench.environment.variables import COMMIT
from bench.tables.formats import format_count_with_noun

CHECKOUT = Path(__file__).parents[2]
PACKAGES = ("bench", "losses", "models")
COMMAND = "CATLIP_BENCH_COMMAND"  # environment variable with the command line, for the processes that it starts
# Version and digest of each loaded extension's source, by its name; filled by `bench.interfaces.extensions`.
LOADED_EXTENSIONS: dict[str, str] = {}


class RunCircumstances(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """The machine, software, time and commit of a run, as stored in its record."""

    # GPU, CPU, memory and system; runs are compared only on equal machines with equal settings of the GPU.
    machine: str
    device: str  # "cpu" or "cuda"
    threads: Annotated[int, msgspec.Meta(ge=1)]
    precision: str
    compiled: bool
    packages: dict[str, str]
    commit: str  # of this project at the start, as `describe_current_commit` returns it
    started_at: str  # UTC, ISO 8601, before the run
    # Number of processes among which each batch was divided; `threads` is per process.
    processes: Annotated[int, msgspec.Meta(ge=1)] = 1
    # Driver, power limit, ECC, MIG and clocks of the GPU (bench/environment/gpu_settings.py); None: NVML does not tell.
    # "TF32": what fp32 computes in it (bench/environment/tf32.py).
    gpu: GpuSettings = {}
    # UUID of rank 0's card: the speeds of two cards of one model differ by some percent.
    gpu_uuid: str = ""
    extensions: dict[str, str] = {}  # version and digest of the source, by name
    busy_processes: str = ""  # other processes that kept a core busy before the comparison, for which it left one free
    command: str = ""  # command line that started the run

    @property
    def machine_and_gpu(self) -> str:
        """The machine with the settings of its GPU."""
        if not self.gpu:
            return self.machine
        return f"{self.machine}; {format_gpu_settings(self.gpu)}"


def count_devices(circumstances: RunCircumstances) -> float:
    """Return the number of GPUs of a run, or the share of this CPU's cores that its threads may keep busy."""
    if circumstances.device == "cuda":
        return float(circumstances.processes)
    return circumstances.processes * circumstances.threads / count_available_cores()


def summarize_machine_and_software(circumstances: RunCircumstances) -> str:
    """Return one line with machine, threads, processes and packages; figures with unequal lines are not joined."""
    packages = ", ".join(f"{name} {version}" for name, version in circumstances.packages.items())
    threads = format_count_with_noun(circumstances.threads, "thread")
    processes = f"; {circumstances.processes} processes" if circumstances.processes > 1 else ""
    return f"{circumstances.machine_and_gpu}; {threads}{processes}; {packages}"


def digest_program_files() -> str:
    """Return a digest (16 hex digits) of the files of this program that a run executes or reads, without the pack."""
    digest = sha256()
    paths = list[Path]()
    for package in PACKAGES:
        paths += (CHECKOUT / package).rglob("*")
    for path in sorted(paths):
        names = path.relative_to(CHECKOUT).parts
        is_hidden = any(name.startswith((".", "__pycache__")) for name in names)
        if path.is_file() and "pack" not in names and not is_hidden:
            content = path.read_bytes()
            digest.update(f"{'/'.join(names)} {len(content)} ".encode())
            digest.update(content)
    return digest.hexdigest()[:16]


def describe_current_commit(checkout: Path | None = None) -> str:
    """Return a checkout's commit as text, by default this one's.

    It ends with "-dirty" if tracked files differ. Without git it is "unknown", and for this project the variable
    `COMMIT`, or a digest of the sources.
    """
    folder = checkout or CHECKOUT
    if (folder / ".git").exists():  # else git would describe a repository that the folder lies in
        options = ["--always", "--dirty", "--abbrev=40", "--exclude=*"]
        command = ["git", "-C", str(folder), "describe", *options]
        with suppress(OSError, subprocess.CalledProcessError):
            git = subprocess.run(command, capture_output=True, text=True, check=True)
            return git.stdout.strip()
    if checkout:
        return "unknown"
    return os.environ.get(COMMIT) or f"sources-{digest_program_files()}"
