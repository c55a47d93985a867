"""The command line of the reports: records in, pages out."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import tyro

from bench.config import choose
from bench.record import comparisons, read_records
from reports.page import page
from reports.plan import plan_page
from reports.suites import read_suites

PROGRAM = "python -m reports"
USAGE = 2  # exit code of what the user has to put right


class Verb(Protocol):
    """What the command line can do: its options are the fields, its work is `run`."""

    def run(self) -> None:
        """Do it; ValueError or OSError for what the user has to put right."""


@dataclass(frozen=True)
class Build:
    """Draw the page of one comparison and print where it is."""

    results: tyro.conf.Positional[Path] = Path("results")
    """Folder of records."""
    out: Path | None = None
    """The page to write; index.html in the folder of records if not given."""
    comparison: str | None = None
    """Which comparison; the newest if not given."""

    def run(self) -> None:
        """Read, draw, write."""
        found = comparisons(self.results)
        if not found:
            raise ValueError(f"{self.results} holds no records; run `python -m bench` first, which leaves some there")
        name = found[-1] if self.comparison is None else self.comparison
        choose(name, dict.fromkeys(found), f"comparison in {self.results}")
        others = [other for other in reversed(found) if other != name]
        text = page(name, read_records(self.results, name), others=others, suites=read_suites(self.results))
        out = self.out or self.results / "index.html"
        write(out, text)
        print(out)


@dataclass(frozen=True)
class Plan:
    """Draw the page of a plan and print where it is."""

    plan: tyro.conf.Positional[Path]
    """What `python -m bench plan --json` wrote."""
    out: Path | None = None
    """The page to write; beside the plan if not given."""

    def run(self) -> None:
        """Read, draw, write."""
        out = self.out or self.plan.with_suffix(".html")
        write(out, plan_page(self.plan.read_bytes()))
        print(out)


VERBS: dict[str, type[Verb]] = {"build": Build, "plan": Plan}


def main(arguments: Sequence[str]) -> int:
    """Run one verb; return the exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = [f"usage: {PROGRAM} VERB ...", *(f"  {name:8} {verb.__doc__}" for name, verb in VERBS.items())]
        print("\n".join(lines), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else USAGE
    try:
        verb = choose(arguments[0], VERBS, f"verb of {PROGRAM}")
        tyro.cli(verb, args=arguments[1:], prog=f"{PROGRAM} {arguments[0]}").run()
    except (ValueError, OSError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return USAGE
    return 0


def write(path: Path, text: str) -> None:
    """Write atomically: a page at `path` is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
