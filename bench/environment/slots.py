"""A process that shares its machine with others by slots: it works in its slot and waits in the others'.

Whoever starts the processes gives out the slots (`bench.orchestration.interleave`). A slot begins with a byte read from
one pipe and ends with a byte written to another; the environment names both. The standard library is all that this
module imports, for the suites of other commits load it as a file.
"""

import os

TURNS = "CATLIP_BENCH_TURNS"  # the environment's variable with the two ends of pipes that a run has


def takes_turns() -> bool:
    """Whether this process does."""
    return TURNS in os.environ


def await_turn() -> None:
    """Wait for this process's first turn, where it takes turns; SystemExit where nobody conducts any more."""
    if takes_turns() and not os.read(int(os.environ[TURNS].split()[0]), 1):
        raise SystemExit(1)


def pass_on() -> None:
    """Let the other runs work, where this process takes turns; return when it is its turn again."""
    if takes_turns():
        os.write(int(os.environ[TURNS].split()[1]), b".")
        await_turn()
