"""Parses the command line and runs its verb."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from bench.cli.default import DefaultComparison
from bench.console.console import PROGRAM, USAGE, escape_unprintable, log, require_utf8
from bench.console.options import parse_options
from bench.console.tables import require_writable_json
from bench.environment.circumstances import COMMAND
from bench.environment.torchrun_ranks import read_torchrun_ranks
from bench.environment.variables import require_valid_environment_variables
from bench.interfaces.extensions import load_features_and_extensions, split_extension_arguments
from bench.interfaces.registry import Registry
from bench.interfaces.verb import (
    REPORT_VERBS,
    VERBS,
    LazyVerb,
    ParsedVerb,
    format_verb_list,
    import_verb_class,
)

TRAIN = "train"  # the verb that torchrun may start
REPORT = "report"  # the verb that has verbs


@dataclass(frozen=True, slots=True)
class ReportWithoutVerb:
    """Build pages and exports from records."""

    def run(self) -> int:
        """Refuse a command line without a verb."""
        raise ValueError(f"name a verb of report: {', '.join(REPORT_VERBS)}")


def dispatch(arguments: Sequence[str]) -> int:
    """Run the verb that a command line names; return its exit code. ValueError or OSError says what to correct.

    Under torchrun only rank 0 runs the verb, a training; the other ranks follow it.
    """
    # Records are UTF-8, and arguments may not be.
    os.environ[COMMAND] = escape_unprintable(f"{PROGRAM} {shlex.join(arguments)}".strip())
    extensions, words = split_extension_arguments(arguments)
    require_utf8(*arguments)
    load_features_and_extensions(extensions)
    require_valid_environment_variables()
    if read_torchrun_ranks().world_size > 1:
        return _train_on_rank(words)
    return _run_verb(words)


def _train_on_rank(words: Sequence[str]) -> int:
    """Run a training on this rank of a torchrun; other verbs are refused."""
    from bench.orchestration.ranks import (
        open_rank_store,
        share_run_with_ranks,
        wait_for_and_execute_run_of_rank0,
    )

    is_rank0 = read_torchrun_ranks().rank == 0
    if words[:1] != [TRAIN]:
        if is_rank0:
            log('error: torchrun starts train alone; for other verbs add --launch "torchrun ..."')
        return USAGE
    if not is_rank0:
        return wait_for_and_execute_run_of_rank0()
    open_rank_store()
    try:
        return _run_verb(words)
    finally:
        share_run_with_ranks("")


def _run_verb(words: Sequence[str]) -> int:
    """Parse and run a verb in this process; an interrupt is logged with how to continue."""
    command = parse_command_line(words)
    require_writable_json(getattr(command, "json", None))
    try:
        return command.run()
    except KeyboardInterrupt:
        remedy = " and --resume" if hasattr(command, "resume") else ""
        log(f"\ninterrupted: finished work is kept; continue with the same command{remedy}")
        raise


def parse_command_line(words: Sequence[str]) -> ParsedVerb:
    """Parse a verb, or a verb of `report`, and its options; without a verb those of the default comparison."""
    if words[:1] == [REPORT]:
        return _parse_verb(words[1:], f"{PROGRAM} {REPORT}", REPORT_VERBS, ReportWithoutVerb)
    return _parse_verb(words, PROGRAM, VERBS, DefaultComparison)


def _parse_verb(
    words: Sequence[str], program: str, verbs: Registry[LazyVerb], without_verb: type[ParsedVerb]
) -> ParsedVerb:
    """Parse the verb that the words begin with; options alone are those of the command `without_verb`."""
    if words and not words[0].startswith("-"):
        verb, *options = words
        command: ParsedVerb = parse_options(
            import_verb_class(verb, verbs), f"{program} {verb}", options
        )
        return command
    description = (
        f"{without_verb.__doc__}\n\nVerbs; each has its own --help:\n\n{format_verb_list(verbs)}"
    )
    return parse_options(without_verb, program, words, description)
