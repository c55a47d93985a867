"""Environment variables that hold numbers, or a commit; all are checked when a command starts. No torch here."""

import os
import re

RESTART_COUNT = "TORCHELASTIC_RESTART_COUNT"  # how often torchrun has restarted these processes after a failure
END_TIME = "SLURM_JOB_END_TIME"  # Unix time at which SLURM ends the job
WATCHDOG_SECONDS = "CATLIP_BENCH_WATCHDOG_SECONDS"  # maximum wait of a rank for the others
DEFAULT_WATCHDOG_SECONDS = 600.0
COMMIT = "CATLIP_BENCH_COMMIT"  # commit of a checkout that was copied without .git
COUNTS = {  # the smallest and the largest value of each
    "WORLD_SIZE": (1, 10**6),
    "RANK": (0, 10**6),
    "LOCAL_RANK": (0, 10**6),
    "LOCAL_WORLD_SIZE": (1, 10**6),
    "MASTER_PORT": (1, 2**16 - 1),
    RESTART_COUNT: (0, 10**6),
}
SECONDS = {END_TIME: (0.0, 1e12), WATCHDOG_SECONDS: (1.0, 1e6)}


def read_integer_variable(name: str) -> int | None:
    """Return the whole number that a variable of `COUNTS` holds, None if it is not set; ValueError for other values."""
    low, high = COUNTS[name]
    text = os.environ.get(name)
    if text is None:
        return None
    if text.isascii() and text.isdecimal() and len(text) <= len(str(high)) and low <= int(text) <= high:
        return int(text)
    raise ValueError(f"{name} must be a whole number from {low} to {high}, got {text!r}: correct it, or unset it")


def read_seconds_variable(name: str) -> float | None:
    """Return the seconds that a variable of `SECONDS` holds, None if it is empty; ValueError for other values."""
    low, high = SECONDS[name]
    text = os.environ.get(name)
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if low <= seconds <= high:
        return seconds
    raise ValueError(f"{name} must be a number from {low:g} to {high:g}, got {text!r}: correct it, or unset it")


def require_valid_variables() -> None:
    """Raise ValueError that names a variable without a valid value."""
    if not re.fullmatch("([0-9a-f]{40}(-dirty)?)?", commit := os.environ.get(COMMIT, "")):
        raise ValueError(f"{COMMIT} must be a commit of 40 hexadecimal digits, got {commit!r}: correct it, or unset it")
    for name in COUNTS:
        read_integer_variable(name)
    for name in SECONDS:
        read_seconds_variable(name)
