"""The command line of the reports: pages and exports from records."""

import sys
from collections.abc import Sequence
from typing import Protocol

import tyro

from bench.config import choose
from bench.console.console import USAGE, log
from reports.verbs import CompareFigures, ComparisonPage, ExportFigures, HistoryPage, PlanPage


class Verb(Protocol):
    """A command: its fields are the options."""

    def run(self) -> int:
        """Run the command and return the exit code; raise ValueError or OSError for a mistake of the user."""
        ...


VERBS: dict[str, type[Verb]] = {
    "build": ComparisonPage,
    "plan": PlanPage,
    "history": HistoryPage,
    "compare": CompareFigures,
    "export": ExportFigures,
}


def main(arguments: Sequence[str], program: str = "python -m reports") -> int:
    """Run one verb; return the exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = [f"usage: {program} VERB ...", *(f"  {name:8} {verb.__doc__}" for name, verb in VERBS.items())]
        print("\n".join(lines), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else USAGE
    try:
        verb = choose(arguments[0], VERBS, f"verb of {program}")
        return tyro.cli(verb, args=arguments[1:], prog=f"{program} {arguments[0]}").run()
    except (ValueError, OSError) as error:
        log(f"{program}: {error}")
        return USAGE


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
