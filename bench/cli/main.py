"""Parses the command line, runs its verb and maps errors to exit codes."""

import os
import shlex
from collections.abc import Sequence

from bench.cli.default import Bench
from bench.console.console import (
    PROGRAM,
    USAGE,
    escape_unprintable,
    log,
    report_usage_error,
    require_utf8,
)
from bench.console.options import parse_options
from bench.environment.circumstances import COMMAND
from bench.environment.torchrun_ranks import read_torchrun_ranks
from bench.environment.variables import require_valid_variables
from bench.interfaces.extensions import load_extensions, split_extension_arguments
from bench.interfaces.verb import VERBS, Command, find_command, list_verbs

TRAIN = "train"  # the verb that torchrun may start


def dispatch(arguments: Sequence[str]) -> int:
    """Run the verb that a command line names and return its exit code; KeyboardInterrupt is re-raised.

    Under torchrun only rank 0 runs the verb, a training; the other ranks follow it.
    """
    # Records are UTF-8, and arguments may not be.
    os.environ[COMMAND] = escape_unprintable(f"{PROGRAM} {shlex.join(arguments)}".strip())
    extensions, words = split_extension_arguments(arguments)
    try:
        require_utf8(*arguments)
        load_extensions(extensions)
        require_valid_variables()
        if read_torchrun_ranks().world_size > 1:
            return _run_rank(words)
        return _run_verb(words)
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        return report_usage_error(error)


def _run_rank(words: Sequence[str]) -> int:
    """Run a training on this rank of a torchrun; other verbs are refused."""
    from bench.orchestration.ranks import connect_ranks, follow_rank0, share_run

    is_rank0 = read_torchrun_ranks().rank == 0
    if words[:1] != [TRAIN]:
        if is_rank0:
            log('error: torchrun starts train alone; for other verbs add --launch "torchrun ..."')
        return USAGE
    if not is_rank0:
        return follow_rank0()
    connect_ranks()
    try:
        return _run_verb(words)
    finally:
        share_run(None)


def _run_verb(words: Sequence[str]) -> int:
    command = parse(words)
    try:
        return command.run()
    except KeyboardInterrupt:
        remedy = " and --resume" if hasattr(command, "resume") else ""
        log(f"\ninterrupted: finished work is kept; continue with the same command{remedy}")
        raise


def parse(words: Sequence[str]) -> Command:
    """Parse a verb and its options, or without a verb the options of the default comparison."""
    if not words or words[0].startswith("-"):
        description = f"{Bench.__doc__}\n\nVerbs; each has its own --help:\n\n{list_verbs(VERBS)}"
        return parse_options(Bench, PROGRAM, words, description)
    verb, *options = words
    command: Command = parse_options(find_command(verb, VERBS), f"{PROGRAM} {verb}", options)
    return command
