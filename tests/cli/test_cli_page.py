"""The page of the command line is made from the parsers: `python -m tests.cli.test_cli_page` writes docs/cli.md."""

import io
import os
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from pathlib import Path
from textwrap import fill
from unittest.mock import patch

from bench.__main__ import main
from bench.interfaces.verb import REPORT_VERBS, VERBS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "cli.md"
INTRODUCTION = """# Command line

`catlip-bench` without a verb runs the default comparison. `python -m bench`, from a checkout, is the same program.
Tables go to stdout, progress and messages to stderr. Every command takes `--extension PATH.py` or
`--extension package.module`, repeatable ([extending](extending.md)). This page is generated from the parsers.

| exit code | meaning |
|---|---|
| 0 | success |
| 1 | a regression, or a disagreement |
| 2 | wrong usage, or nothing was measured |
| 3 | a run failed; the other runs are recorded |
| 4 | inconclusive (`regress`) |
| 70 | an error that nobody expected; the message names the file with its traceback |
| 75 | interrupted by SIGUSR1 or the end of a SLURM job: requeue it; finished work is kept |
| 130, 143 | interrupted by SIGINT, by SIGTERM; finished work is kept |
| 141 | whoever read the output ended first, as `head` does |
"""
REPETITION = r" \(default:\s+(None|''|)\)| \(repeatable\)|\{None\}\|"  # what says nothing
# A switch is shown with both names where it is on by default, and a positional argument is always required.
REPLACEMENTS = {
    r", (--no-\S+)(.*) \(default: True\)": r"/\1\2",
    r", --no-\S+(.*) \(default: False\)": r"\1",
    r"^(  [^-].*) \(required\)": r"\1",
}
HEADINGS = ("usage:", "options", "positional arguments", "-h, --help", "---")
FEWEST = 3  # verbs that share an option with equal words


def help_of(*words: str) -> str:
    """Return the help of a verb, as a wide terminal without colours shows it, without the line of usage."""
    shown = io.StringIO()
    plain = {"COLUMNS": "1000", "NO_COLOR": "1", "TERM": "dumb"}
    with patch.dict(os.environ, plain), redirect_stdout(shown), suppress(SystemExit):
        main([*words, "--help"])
    text = shown.getvalue().replace(str(ROOT), "CHECKOUT")
    lines = list[str]()
    for line in re.sub(REPETITION, "", text).splitlines():
        indented = re.sub(r"(?<=\S) {2,}", "  ", line.rstrip())
        if line.startswith(" " * 10):  # the help of a long option
            lines[-1] += f"  {line.strip()}"
        elif not line.strip().startswith(HEADINGS) and (line.strip() or lines[-1:] != [""]):
            lines.append(indented)
    page = re.sub(r" {2,}\(", " (", "\n".join(lines).strip("\n"))
    for pattern, replacement in REPLACEMENTS.items():
        page = re.sub(pattern, replacement, page, flags=re.MULTILINE)
    return page


def page() -> str:
    """Return the whole page."""
    helps = {"catlip-bench": help_of()}
    helps |= {verb: help_of(verb) for verb in VERBS if verb != "report"}
    helps |= {f"report {verb}": help_of("report", verb) for verb in REPORT_VERBS}
    counts = Counter(line for text in helps.values() for line in text.splitlines())
    shared = {line for line, count in counts.items() if line[:4] == "  --" and count >= FEWEST}
    sections = [INTRODUCTION, f"## Options of several verbs\n\n{block(sorted(shared))}"]
    for verb, text in helps.items():
        lines = text.splitlines()
        names = [line.split()[0] for line in lines if line in shared]
        also = [f"  also {', '.join(names)}"] if names else []
        own = [line for line in lines if line not in shared]
        sections.append(f"## {verb}\n\n{block(own + also)}")
    return "\n".join(sections)


def block(lines: Sequence[str]) -> str:
    """Return lines as they are, long ones wrapped."""
    wrapped = [fill(line, 118, subsequent_indent="      ") for line in lines]
    return "```text\n" + "\n".join(wrapped).strip("\n") + "\n```\n"


def test_the_page_of_the_command_line_says_what_the_parsers_accept() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "write it with: python -m tests.cli.test_cli_page"
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
