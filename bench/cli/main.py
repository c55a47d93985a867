"""Which verb a command line names, and how it ends."""

import sys
from collections.abc import Sequence

import tyro

from bench.cli.compare import GROUPS, TOGETHER, VERBS, Bench
from bench.cli.options import Command
from bench.config import choose
from bench.console.console import PROGRAM, say
from bench.console.exit_codes import OK, USAGE
from bench.environment.rank_info import place
from bench.orchestration.runner import follow
from bench.orchestration.torchrun import launch


def dispatch(arguments: Sequence[str]) -> int:
    """Do what a command line names; return the exit code. KeyboardInterrupt comes through.

    Of those that torchrun started, rank 0's is run and the others follow it.
    """
    try:
        met = launch()
        if met is None:
            return _run(arguments)
        if met.place.rank > 0:
            follow(met)
            return OK
    except ValueError as error:
        return _usage(error)
    try:
        return _run(arguments)
    finally:
        met.end()


def _run(arguments: Sequence[str]) -> int:
    try:
        command = parse(arguments)
    except ValueError as error:
        return _usage(error)
    if place().ranks > 1 and not isinstance(command, TOGETHER):
        return _usage(ValueError("torchrun starts measure and train; start anything else without it"))
    try:
        return command.run()
    except (ValueError, OSError) as error:
        return _usage(error)
    except KeyboardInterrupt:
        print(f"\ninterrupted: {command.how_to_go_on}", file=sys.stderr)
        raise


def parse(arguments: Sequence[str]) -> Command:
    """Read a verb and its options; without a verb, the options of the whole comparison."""
    if not arguments or arguments[0].startswith("-"):
        return tyro.cli(Bench, prog=PROGRAM, args=arguments, description=_overview())
    verb = arguments[0]
    return tyro.cli(choose(verb, VERBS, "verb"), prog=f"{PROGRAM} {verb}", args=arguments[1:])


def _overview() -> str:
    """Return the help of the whole program: its verbs, grouped by what a person wants."""
    lines = {
        purpose: [f"  {name:10} {(verb.__doc__ or '').splitlines()[0]}" for name, verb in verbs.items()]
        for purpose, verbs in GROUPS.items()
    } | {"report": ["  report     Draw pages, charts over commits and exports from records."]}
    groups = ("\n".join([f"To {purpose}:", *rows]) for purpose, rows in lines.items())
    return "\n\n".join([Bench.__doc__ or "", "Verbs, each with --help of its own.", *groups])


def _usage(error: Exception) -> int:
    say(f"error: {error}")
    return USAGE
