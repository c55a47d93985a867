"""Parses the command line, runs its verb and maps errors to exit codes."""

import shlex
from collections.abc import Sequence

from bench.cli.compare import Bench
from bench.cli.verbs import REPORT, VERBS, verbs_by_purpose
from bench.console.console import (
    FAILED_CASE,
    OK,
    PROGRAM,
    REQUEUE,
    USAGE,
    describe_error,
    log,
    require_utf8,
    split_extension_arguments,
)
from bench.console.options import parse_options
from bench.environment.rank_info import torchrun_env
from bench.environment.variables import require_valid_variables
from bench.interfaces.extensions import load_extensions
from bench.interfaces.verb import Command
from bench.orchestration.runner import OutOfTimeError, follow_rank0
from bench.orchestration.torchrun import RunCoordinator, connect_coordinator


def dispatch(arguments: Sequence[str]) -> int:
    """Run the verb that a command line names and return its exit code; KeyboardInterrupt is re-raised.

    Under torchrun only rank 0 runs the verb; the other ranks follow it.
    """
    try:
        named, arguments = split_extension_arguments(arguments)
        load_extensions(named)
        require_valid_variables()
        coordinator = connect_coordinator()
        if coordinator is None:
            return _run_verb(arguments)
        coordinator.publish_command(arguments)
        if coordinator.rank_info.rank > 0:
            follow_rank0(coordinator)
            return OK
    except ValueError as error:
        return _report_usage_error(error)
    coordinator.start_heartbeat()
    silent = ""
    try:
        code = _run_verb(arguments, coordinator)
    finally:
        silent = coordinator.shut_down()
    if silent and code == OK:
        log(f"error: the command line of rank {silent} does not end, as if stopped; all results are written")
        return FAILED_CASE
    return code


def _run_verb(arguments: Sequence[str], coordinator: RunCoordinator | None = None) -> int:
    try:
        require_utf8(*arguments)
        command = parse(arguments)
        if torchrun_env().world_size > 1 and not getattr(command, "runs_on_all_ranks", False):
            verbs = [
                name
                for verbs in verbs_by_purpose().values()
                for name, verb in verbs.items()
                if getattr(verb, "runs_on_all_ranks", False)
            ]
            return _report_usage_error(f"torchrun can start {', '.join(verbs)} only; start other verbs without it")
        try:
            if coordinator is not None and not getattr(command, "accepts_unequal_ranks", False):
                coordinator.require_equal_commands()
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
        return parse_options(Bench, PROGRAM, arguments, _describe_verbs())
    verb, *options = arguments
    command: Command = parse_options(VERBS.find(verb), f"{PROGRAM} {verb}", options)
    return command


def _describe_verbs() -> str:
    """Return the help of the program: its verbs, grouped by purpose."""
    paragraphs = [Bench.__doc__ or "", "Verbs; each has its own --help."]
    by_purpose = {
        purpose: {name: (verb.__doc__ or "").splitlines()[0] for name, verb in verbs.items()}
        for purpose, verbs in verbs_by_purpose().items()
    }
    by_purpose[REPORT] = {REPORT: "Build pages, charts and exports from records."} | by_purpose.get(REPORT, {})
    for purpose, texts in by_purpose.items():
        paragraphs.append("\n".join([f"To {purpose}:", *(f"  {name:10} {text}" for name, text in texts.items())]))
    paragraphs.append(
        "Every command takes --extension PATH.py or --extension package.module (repeatable): it first loads what that "
        "adds (docs/extending.md)."
    )
    return "\n\n".join(paragraphs)


def _report_usage_error(error: Exception | str) -> int:
    log(f"error: {describe_error(error)}")
    return USAGE
