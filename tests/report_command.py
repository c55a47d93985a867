"""The command line of `report` in this process."""

from collections.abc import Sequence

from bench.__main__ import main as run_command_line


def main(arguments: Sequence[str]) -> int:
    """Run a verb of `report`; return the exit code."""
    return run_command_line(["report", *arguments])
