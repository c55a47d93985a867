"""The slots of an interleaved process, which works in its own slots and waits in those of the other processes.

The parent process gives out the slots (`bench.orchestration.runner`). A slot begins with a byte read from one pipe
and ends with a byte written to another; an environment variable names both. This module imports only the standard
library, because a plugin loads it as a file beside the suites of other commits.
"""

import os

SLOT_VARIABLE = "CATLIP_BENCH_SLOTS"  # environment variable with the run's two pipe ends


def is_interleaved_process() -> bool:
    """Return whether this process works in turns with others, in slots that a parent process gives out."""
    return SLOT_VARIABLE in os.environ


def stop_slot_pipe_inheritance() -> None:
    """Let programs that this process starts not inherit its pipes: their end tells the parent that a run is over."""
    for end in os.environ.get(SLOT_VARIABLE, "").split():
        os.set_inheritable(int(end), False)


def wait_for_slot() -> None:
    """Wait for this process's next slot; return at once if not interleaved. SystemExit if the parent has ended."""
    if is_interleaved_process() and not os.read(int(os.environ[SLOT_VARIABLE].split()[0]), 1):
        raise SystemExit(1)


def yield_and_wait_for_slot() -> None:
    """End this process's slot and wait for its next one; return at once if it is not interleaved."""
    if is_interleaved_process():
        os.write(int(os.environ[SLOT_VARIABLE].split()[1]), b".")
        wait_for_slot()
