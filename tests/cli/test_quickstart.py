"""docs/quickstart.md leads to a page: its scripts run in order, and its outputs are what they print.

What the scripts measured and trained is kept in tests/records/quickstart, from which the outputs of these scripts and
the sentences of the page are made again. `python -m tests.cli.test_quickstart` writes the outputs anew.
"""

import io
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest

from bench.cli.measure import speed_and_memory_tables
from bench.console.console import OK
from bench.console.tables import print_tables
from bench.environment.circumstances import CHECKOUT
from bench.interfaces.verb import VERBS
from bench.records.record import Speed, read_records
from bench.transfer.terminal_tables import make_transfer_tables
from tests.processes import answer
from tests.reports.test_page import Document

pytestmark = pytest.mark.skipif(
    "data" not in VERBS, reason="the page names a verb of a feature that is not here"
)
PAGE = CHECKOUT / "docs" / "quickstart.md"
RECORDS = CHECKOUT / "tests" / "records" / "quickstart"
CUT = "…"  # a line of the page in place of lines of an output
SCRIPT = re.compile(r"```sh\n(.*?)```\n(.*?)(?=```sh|\Z)", re.DOTALL)  # and what follows it
OUTPUT = re.compile(r"```text\n(.*?)```", re.DOTALL)
QUOTE = re.compile(r"^>(.*)", re.MULTILINE)  # of the page that a script wrote
# What makes the scripts take seconds on a CPU.
SHORTER = {
    "--rounds 5": "--rounds 1 --set timed_windows=1 --set steps_per_window=1 --set untimed_steps=1",
    "--images-seen 20k": "--images-seen 512",
    "in 1 2 3 4;": "in 1;",
    "in clip catlip;": "in catlip;",
}
KEPT_IMAGES = 8  # one of so many
PRINTS_ITS_COMMANDS = (
    'catlip-bench() { echo catlip-bench "${@@Q}"; }; python() { echo python "${@@Q}"; }'
)


def steps() -> list[tuple[str, list[str], str]]:
    """Return the scripts of the page in order, each with the lines of its output and the sentences quoted below it."""
    found = []
    for script, text in SCRIPT.findall(PAGE.read_text(encoding="utf-8")):
        output = "".join(OUTPUT.findall(text)).splitlines()
        found.append((script, output, " ".join(" ".join(QUOTE.findall(text)).split())))
    return found


def run_commands(script: str) -> str:
    """Run a script of single commands in the current folder, without the start of a program; return what it prints."""
    printed = ""
    for line in script.splitlines():
        program, *words = shlex.split(line)
        if program == "catlip-bench":
            code, text = answer(Path.cwd(), *words)
            assert code == OK, text
            printed += text
        else:
            runpy.run_module(words[-1], run_name="__main__")
    return printed


def run_bash(script: str) -> None:
    """Run the commands of a script, with its loops, in the current folder."""
    words = ["bash", "-ec", f"{PRINTS_ITS_COMMANDS}\n{script}"]
    run_commands(subprocess.run(words, capture_output=True, check=True, text=True).stdout)


def print_from_records(script: str) -> str:
    """Put what a script of `measure` or `train` recorded into `results`; return the tables that it printed."""
    results = Path("results")
    results.mkdir(exist_ok=True)
    text = io.StringIO()
    with redirect_stdout(text):
        if "measure" in script:
            for path in RECORDS.glob("*.json"):
                shutil.copy(path, results)
            records = read_records(results)
            speeds = [record for record in records if isinstance(record.measured, Speed)]
            experiments = {record.experiment_name: record.experiment for record in speeds}
            ordered = [experiments[name] for name in sorted(experiments, reverse=True)]
            comparison = SimpleNamespace(experiments=ordered, records=lambda: records)
            print_tables(speed_and_memory_tables(comparison))  # type: ignore[arg-type]
        for out in re.findall(r"--out results/(\S+)", script):
            pattern = re.sub(r"\$\w+", "*", out)
            for folder in RECORDS.glob(f"{pattern}/"):
                shutil.copytree(folder, results / folder.name, dirs_exist_ok=True)
                print_tables(make_transfer_tables(read_records(folder)))
    return text.getvalue()


def mask(line: str) -> str:
    """Return the words of a line, with `#` for each number."""
    return " ".join(re.sub(r"[-+]?\d[\d.,]*", "#", line).split())


def fill(shown: list[str], printed: str) -> list[str]:
    """Return the lines that the page shows of an output, as it is now: in order, and equal but for their numbers."""
    lines = iter(printed.splitlines())
    filled = []
    for line in shown:
        if line == CUT:
            filled.append(line)
        else:
            equal = (candidate for candidate in lines if mask(candidate) == mask(line))
            filled.append(next(equal, f"no line follows that is like: {line}").rstrip())
    return filled


def run_steps() -> Iterator[tuple[list[str], list[str], str]]:
    """Run the scripts in the current folder; yield the output of each, as shown and as it is now, and its quotes."""
    for script, shown, quotes in steps():
        is_recorded = "catlip-bench measure" in script or "catlip-bench train" in script
        printed = print_from_records(script) if is_recorded else run_commands(script)
        if is_recorded and "report build" in script:
            run_commands("catlip-bench report build results")
        yield shown, fill(shown, printed), quotes


@pytest.mark.slow
def test_outputs_are_what_the_scripts_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for shown, printed, quotes in run_steps():
        assert shown == printed
        if quotes:
            assert quotes in Document(Path("results/index.html").read_text("utf-8")).words()


@pytest.mark.slow
@pytest.mark.usefixtures("decoded")
def test_scripts_lead_to_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, *others = (script for script, _, _ in steps())
    run_bash(first)
    for folder in ("mine", "classes"):
        for number, image in enumerate(sorted(Path(folder).rglob("*.webp"))):
            if number % KEPT_IMAGES:
                image.unlink()
                image.with_suffix(".txt").unlink(missing_ok=True)
    text = "".join(others)
    for long, short in SHORTER.items():
        assert long in text
        text = text.replace(long, short)
    run_bash(text)
    document = Document(Path("results/index.html").read_text(encoding="utf-8"))
    names = [row[0].partition("|")[0] for row in document.tables["The answer in figures"][1:]]
    assert names == ["CLIP", "CatLIP"]
    assert "data:image/webp" in Path("data.html").read_text(encoding="utf-8")


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    with TemporaryDirectory() as scratch, chdir(scratch):
        for shown, printed, quotes in run_steps():
            text = text.replace("\n".join(shown), "\n".join(printed))
            page = Path("results/index.html")
            if quotes and quotes not in Document(page.read_text("utf-8")).words():
                sys.exit(f"the page does not say: {quotes}")
    PAGE.write_text(text, encoding="utf-8")
