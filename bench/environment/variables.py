"""Environment variables that hold numbers, or a commit; all are checked when a command starts. No torch here."""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

RESTART_COUNT = (
    "TORCHELASTIC_RESTART_COUNT"  # how often torchrun has restarted these processes after a failure
)
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
T = TypeVar("T", int, float)
SECONDS = {END_TIME: (0.0, 1e12), WATCHDOG_SECONDS: (1.0, 1e6)}


def read_integer_variable(name: str) -> int | None:
    """Return the whole number that a variable of `COUNTS` holds, None if it is not set; ValueError for other values."""
    if name not in os.environ:
        return None
    return _parse_number(name, int, COUNTS[name])


def read_seconds_variable(name: str) -> float | None:
    """Return the seconds that a variable of `SECONDS` holds, None if it is empty; ValueError for other values."""
    if not os.environ.get(name):
        return None
    return _parse_number(name, float, SECONDS[name])


def _parse_number(name: str, kind: Callable[[str], T], limits: tuple[T, T]) -> T:
    """Return the value of a variable as a number within limits; ValueError that names them."""
    low, high = limits
    text = os.environ[name]
    with suppress(ValueError):
        number = kind(text)
        if low <= number <= high and text.isascii():
            return number
    noun = "a whole number" if kind is int else "a number"
    raise ValueError(
        f"{name} must be {noun} from {low:.0f} to {high:.0f}, got {text!r}: correct it, or unset it"
    )


def require_valid_variables() -> None:
    """Raise ValueError that names a variable without a valid value."""
    commit = os.environ.get(COMMIT, "")
    if not re.fullmatch("([0-9a-f]{40}(-dirty)?)?", commit):
        raise ValueError(
            f"{COMMIT} must be a commit of 40 hexadecimal digits, got {commit!r}: correct it, or unset it"
        )
    for name in COUNTS:
        read_integer_variable(name)
    for name in SECONDS:
        read_seconds_variable(name)
