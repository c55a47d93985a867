"""Environment variables: whole numbers, which are checked when a command starts, and a commit. No torch here."""

import os
import re

# How often torchrun has restarted these processes after a failure.
RESTART_COUNT = "TORCHELASTIC_RESTART_COUNT"
END_TIME = "SLURM_JOB_END_TIME"  # Unix time at which SLURM ends the job
WATCHDOG_SECONDS = "CATLIP_BENCH_WATCHDOG_SECONDS"  # maximum wait of a rank for the others
DEFAULT_WATCHDOG_SECONDS = 600
COMMIT = "CATLIP_BENCH_COMMIT"  # commit of a checkout that was copied without .git
SMALLEST = {  # smallest value of each variable that holds a whole number
    "WORLD_SIZE": 1,
    "RANK": 0,
    "LOCAL_RANK": 0,
    "LOCAL_WORLD_SIZE": 1,
    "MASTER_PORT": 1,
    RESTART_COUNT: 0,
    END_TIME: 0,
    WATCHDOG_SECONDS: 1,
}


def read_integer_environment_variable(name: str) -> int | None:
    """Return the whole number that an environment variable holds; None if it is not set; ValueError if invalid."""
    text = os.environ.get(name)
    if not text:
        return None
    if not re.fullmatch("[0-9]{1,12}", text) or int(text) < SMALLEST[name]:
        raise ValueError(
            f"{name} must be a whole number from {SMALLEST[name]} on, got {text!r}: correct it, or unset it"
        )
    return int(text)


def require_valid_environment_variables() -> None:
    """Raise ValueError that names a variable without a valid value."""
    for name in SMALLEST:
        read_integer_environment_variable(name)
