"""The page of the command line is made from the parsers: `python -m tests.cli.test_cli_page` writes docs/cli.md."""

import io
import os
from contextlib import redirect_stdout, suppress
from pathlib import Path
from unittest.mock import patch

from bench.__main__ import main
from bench.cli.verbs import REPORT_VERBS, verbs_by_purpose

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "cli.md"
INTRODUCTION = """# Command line

`catlip-bench` without a verb runs the default comparison. `python -m bench`, from a checkout, is the same program.
Tables go to stdout, progress and messages to stderr. `--json FILE` writes the figures of the tables.
This page is generated from the parsers; a test fails when it is stale.

| exit code | meaning |
|---|---|
| 0 | success |
| 1 | a regression, or a disagreement (a reference's losses) |
| 2 | wrong usage, or nothing was measured |
| 3 | a run failed; the other runs are recorded |
| 4 | inconclusive (`regress`, `explain`) |
| 70 | an error that nobody expected; the message names the file with its traceback |
| 75 | interrupted by SIGUSR1, by the end of a SLURM job, or by `--max-minutes`: requeue it; finished work is kept |
| 130, 143 | interrupted by SIGINT, by SIGTERM; finished work is kept |
| 141 | whoever read the output ended first, as `head` does |
"""


def help_of(*words: str, columns: int) -> str:
    """Return the help of a verb, as a terminal without colours shows it; the checkout's folder is not named."""
    shown = io.StringIO()
    plain = {"COLUMNS": str(columns), "NO_COLOR": "1", "TERM": "dumb"}
    with patch.dict(os.environ, plain), redirect_stdout(shown), suppress(SystemExit):
        main([*words, "--help"])
    text = shown.getvalue().strip().replace(str(ROOT), "CHECKOUT")
    return "\n".join(line.rstrip() for line in text.splitlines())


def page(columns: int) -> str:
    """Return the whole page, its lines as a terminal of so many columns breaks them."""
    sections = [INTRODUCTION, f"## catlip-bench\n\n```text\n{help_of(columns=columns)}\n```\n"]
    for purpose, verbs in verbs_by_purpose().items():
        sections.append(f"## To {purpose}\n")
        sections += [
            f"### {verb}\n\n```text\n{help_of(verb, columns=columns)}\n```\n" for verb in verbs
        ]
    sections.append("## Verbs of report\n")
    sections += [
        f"### report {verb}\n\n```text\n{help_of('report', verb, columns=columns)}\n```\n"
        for verb in REPORT_VERBS
    ]
    return "\n".join(sections)


def letters(text: str) -> str:
    """Return a text without spaces, boxes and rules: a terminal of another width breaks its lines elsewhere."""
    plain = "".join(" " if "\u2500" <= one <= "\u257f" else one for one in text)
    return "".join(word for word in plain.split() if word.strip("-"))


def test_the_page_of_the_command_line_says_what_the_parsers_accept() -> None:
    assert letters(PAGE.read_text(encoding="utf-8")) == letters(page(1000)), (
        "write it with: python -m tests.cli.test_cli_page"
    )


if __name__ == "__main__":
    PAGE.write_text(page(100), encoding="utf-8")
