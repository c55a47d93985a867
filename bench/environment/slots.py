"""The slots of an interleaved process, which works in its own slots and waits in those of the other processes.

The parent process gives out the slots (`bench.orchestration.runner`). A slot begins with a byte read from a socket and
ends with a byte written to it; an environment variable names the socket. This module imports only the standard library,
because a plugin loads it as a file beside the suites of other commits.
"""

import os

SLOT_VARIABLE = (
    "CATLIP_BENCH_SLOT"  # environment variable with the file descriptor of the run's socket
)


def is_interleaved_process() -> bool:
    """Return whether this process works in turns with others, in slots that a parent process gives out."""
    return SLOT_VARIABLE in os.environ


def stop_slot_inheritance() -> None:
    """Let programs that this process starts not inherit its socket, whose end tells the parent that a run is over."""
    if is_interleaved_process():
        os.set_inheritable(int(os.environ[SLOT_VARIABLE]), False)


def wait_for_slot() -> None:
    """Wait for this process's next slot; return at once if not interleaved. SystemExit if the parent has ended."""
    if is_interleaved_process() and not os.read(int(os.environ[SLOT_VARIABLE]), 1):
        raise SystemExit(1)


def yield_and_wait_for_slot() -> None:
    """End this process's slot and wait for its next one; return at once if it is not interleaved."""
    if is_interleaved_process():
        os.write(int(os.environ[SLOT_VARIABLE]), b".")
        wait_for_slot()
