"""The pages of the command line are made from the parsers: `python -m tests.cli.test_cli_page` writes docs/cli."""

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
DOCS = ROOT / "docs"
INTRODUCTION = """# Command line

`catlip-bench` without a verb runs the default comparison; in a checkout, `python -m bench` is the same. Tables go to
stdout, progress and messages to stderr. Every command takes [`--extension`](extending.md).
"""
EXIT_CODES = """## Exit codes

- 0: success
- 1: a regression, or a disagreement
- 2: wrong usage, or nothing was measured
- 3: a run failed, or a record is damaged; the other results are valid
- 4: inconclusive (`regress`)
- 70: an unexpected error; the message names the file with its traceback
- 75: interrupted by SIGUSR1 or the end of a SLURM job; requeue it
- 130, 143: interrupted by SIGINT or SIGTERM; finished work is kept
- 141: the reader of the output ended first, as `head` does
"""
# What the site shows below this page.
NAVIGATION = """```{toctree}
:hidden:
:glob:

cli/*
```
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


def pages() -> dict[str, str]:
    """Return the text of every page by its path below docs."""
    helps = {"default": help_of()}
    helps |= {verb: help_of(verb) for verb in VERBS if verb != "report"}
    helps |= {f"report {verb}": help_of("report", verb) for verb in REPORT_VERBS}
    counts = Counter(line for text in helps.values() for line in text.splitlines())
    shared = {line for line, count in counts.items() if line[:4] == "  --" and count >= FEWEST}
    summaries = {"default": "Compare the methods at the tiny scale."}
    summaries |= {name: verb.summary for name, verb in VERBS.items()}
    summaries |= {f"report {name}": verb.summary for name, verb in REPORT_VERBS.items()}
    index = [
        f"- [`{title_of(words)}`]({path_of(words)}): {as_markdown(summaries[words])}"
        for words in helps
    ]
    index += ["", "## Options of several verbs", "", *option_list(sorted(shared))]
    index += ["", EXIT_CODES, NAVIGATION]
    written = {"cli.md": "\n".join([INTRODUCTION, *index])}
    for words, text in helps.items():
        written[path_of(words)] = verb_page(words, text.splitlines(), shared)
    return written


def title_of(words: str) -> str:
    """Return the command line of a verb."""
    return "catlip-bench" if words == "default" else f"catlip-bench {words}"


def path_of(words: str) -> str:
    """Return the path of a verb's page below docs."""
    return f"cli/{words.replace(' ', '-')}.md"


def verb_page(words: str, lines: Sequence[str], shared: set[str]) -> str:
    """Return the page of a verb: what it does, its own options, and links to those that it shares."""
    written = [f"# {title_of(words)}", ""]
    options = list[str]()
    for line in lines:
        if line.startswith("  ") and line not in shared:
            options.append(line)
        elif not line.startswith("  ") and not line.startswith("Verbs;"):
            written += fill(as_markdown(line), 118).splitlines() or [""]
    options = [line for line in options if line.split()[0] not in VERBS]
    if options:
        written += ["", *option_list(options)]
    names = [f"`{line.split()[0]}`" for line in lines if line in shared]
    if names:
        written += ["", f"[Shared options](../cli.md#options-of-several-verbs): {', '.join(names)}"]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(written)).rstrip() + "\n"


def option_list(lines: Sequence[str]) -> list[str]:
    """Return the lines of a help as a list of options and what they mean."""
    items = []
    for line in lines:
        option, _, meaning = line.strip().partition("  ")
        items.append(f"- `{option}`: {as_markdown(meaning)}")
    return items


def as_markdown(text: str) -> str:
    """Return a text of a help as Markdown that shows every character, with options as code."""
    parts = text.split("`")
    for index in range(0, len(parts), 2):  # outside of code
        escaped = re.sub(r"([*<|\[\]])", r"\\\1", parts[index])
        parts[index] = re.sub(r"(?<!\S)--[a-z-]+", r"`\g<0>`", escaped)
    return "`".join(parts)


def test_the_pages_of_the_command_line_say_what_the_parsers_accept() -> None:
    expected = pages()
    kept = {
        path: (DOCS / path).read_text(encoding="utf-8")
        for path in expected
        if (DOCS / path).is_file()
    }
    assert kept == expected, "write them with: python -m tests.cli.test_cli_page"
    for text in kept.values():  # none is a field's name, or the help of another option
        meanings = re.findall(r"^- `.*?`: (.*?)(?: \(required\))?$", text, re.MULTILINE)
        assert len({words for words in meanings if " " in words}) == len(meanings)
    assert {f"cli/{path.name}" for path in (DOCS / "cli").iterdir()} == {*expected} - {"cli.md"}


if __name__ == "__main__":
    for path in (DOCS / "cli").glob("*.md"):
        path.unlink()
    for name, text in pages().items():
        (DOCS / name).parent.mkdir(exist_ok=True)
        (DOCS / name).write_text(text, encoding="utf-8")
