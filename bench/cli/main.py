"""Parses the command line, runs its verb and maps errors to exit codes."""

import os
import shlex
from collections.abc import Sequence

from bench.cli.default import Bench
from bench.cli.verbs import REPORT, VERBS, verbs_by_purpose
from bench.console.command_line import parent_command_line, program_command_line
from bench.console.console import (
    PROGRAM,
    REQUEUE,
    USAGE,
    describe_error,
    log,
    require_utf8,
    split_extension_arguments,
)
from bench.console.options import parse_options
from bench.environment.circumstances import COMMAND
from bench.environment.rank_info import torchrun_env
from bench.environment.variables import require_valid_variables
from bench.interfaces.extensions import load_extensions
from bench.interfaces.verb import Command
from bench.orchestration.runner import OutOfTimeError

TRAIN = "train"  # the verb that torchrun may start


def dispatch(arguments: Sequence[str]) -> int:
    """Run the verb that a command line names and return its exit code; KeyboardInterrupt is re-raised.

    Under torchrun only rank 0 runs the verb, a training; the other ranks follow it.
    """
    os.environ[COMMAND] = f"{PROGRAM} {shlex.join(arguments)}".strip()
    try:
        extensions, arguments = split_extension_arguments(arguments)
        load_extensions(extensions)
        require_valid_variables()
        if torchrun_env().world_size > 1:
            return _run_rank(arguments)
        return _run_verb(arguments)
    except ValueError as error:
        return _report_usage_error(error)


def _run_rank(arguments: Sequence[str]) -> int:
    """Run a training on this rank of a torchrun; other verbs are refused with the command line that starts them."""
    from bench.orchestration.ranks import connect_ranks, follow_rank0, share_run

    is_rank0 = torchrun_env().rank == 0
    if arguments[:1] != [TRAIN]:
        if is_rank0:
            torchrun = shlex.join(program_command_line(parent_command_line())[:-2])
            line = f"{PROGRAM} {shlex.join(arguments)} --launch {shlex.quote(torchrun)}"
            log(f"error: torchrun starts {TRAIN} alone, other verbs start it: {line}")
        return USAGE
    if not is_rank0:
        return follow_rank0()
    connect_ranks()
    try:
        return _run_verb(arguments)
    finally:
        share_run(None)


def _run_verb(arguments: Sequence[str]) -> int:
    try:
        require_utf8(*arguments)
        command = parse(arguments)
        try:
            return command.run()
        except KeyboardInterrupt:
            log("")
            log(f"interrupted: {command.resume_hint}")
            raise
    except OutOfTimeError as late:
        words = [*arguments, *([] if "--resume" in arguments else ["--resume"])]
        log(f"{late}; continue with: {PROGRAM} {shlex.join(words)}")
        return REQUEUE
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:
        return _report_usage_error(error)


def parse(arguments: Sequence[str]) -> Command:
    """Parse a verb and its options, or without a verb the options of the default comparison."""
    if not arguments or arguments[0].startswith("-"):
        description = _describe_verbs() if {"-h", "--help"} & {*arguments} else None
        return parse_options(Bench, PROGRAM, arguments, description)
    verb, *options = arguments
    command: Command = parse_options(VERBS.find(verb), f"{PROGRAM} {verb}", options)
    return command


def _describe_verbs() -> str:
    """Return the help of the program: its verbs, grouped by purpose."""
    paragraphs = [Bench.__doc__ or "", "Verbs; each has its own --help."]
    by_purpose = verbs_by_purpose()
    by_purpose[REPORT] = {REPORT: "Build pages, charts and exports from records."} | by_purpose.get(
        REPORT, {}
    )
    for purpose, summaries in by_purpose.items():
        lines = [f"  {name:10} {summary}" for name, summary in summaries.items()]
        paragraphs.append("\n".join([f"To {purpose}:", *lines]))
    paragraphs.append(
        "Every command takes --extension PATH.py or --extension package.module (repeatable): it first loads what that "
        "adds (docs/extending.md)."
    )
    return "\n\n".join(paragraphs)


def _report_usage_error(error: Exception | str) -> int:
    log(f"error: {describe_error(error)}")
    return USAGE
