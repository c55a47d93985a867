"""A command in a child process that ends with this process, or at a deadline."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from bench.environment.child_processes import die_with_parent, kill_at_end
from bench.environment.circumstances import CHECKOUT


def run_command(words: Sequence[str], output: Path, seconds: float, settings: Mapping[str, str]) -> int | None:
    """Run a command in the checkout and append what it prints to a file; return its exit code.

    It is killed with its descendants after so many seconds, which returns None, and when this call is interrupted; if
    this process is killed, the command ends too. `settings` are environment variables.
    """
    with output.open("ab") as file:
        child = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=CHECKOUT,
            env=os.environ | settings,
            process_group=0,  # Ctrl-C reaches this process alone
            preexec_fn=partial(die_with_parent, os.getpid()),  # noqa: PLW1509 - this process has one thread
        )
        with kill_at_end(child), suppress(subprocess.TimeoutExpired):
            return child.wait(seconds)
    return None
