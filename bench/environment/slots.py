"""The slots of an interleaved process: it works in its own slot and waits in the others'.

The parent process gives out the slots (`bench.orchestration.interleave`). A slot begins with a byte read from one pipe
and ends with a byte written to another; an environment variable names both. This module imports only the standard
library, because the suites of other commits load it as a file.
"""

import os

TURNS = "CATLIP_BENCH_TURNS"  # environment variable with the run's two pipe ends


def takes_turns() -> bool:
    """Return whether this process is interleaved."""
    return TURNS in os.environ


def await_turn() -> None:
    """Wait for this process's first slot if it is interleaved; SystemExit if the scheduler has ended."""
    if takes_turns() and not os.read(int(os.environ[TURNS].split()[0]), 1):
        raise SystemExit(1)


def pass_on() -> None:
    """End this process's slot if it is interleaved, and wait for its next one."""
    if takes_turns():
        os.write(int(os.environ[TURNS].split()[1]), b".")
        await_turn()
