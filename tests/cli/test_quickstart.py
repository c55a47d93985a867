"""docs/quickstart.md leads to a page: its commands run as they stand, and `data` prints what is shown there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.environment.circumstances import CHECKOUT
from tests.reports.test_page import Document

PAGE = CHECKOUT / "docs" / "quickstart.md"
# What makes the commands take seconds on a CPU.
SMALLER = {"--minutes 5": "--smoke", "--out data.html": "--out data.html --loading-seconds 0.1"}
CUT = "…"  # in place of lines that the page leaves out


def is_whole(command: str) -> bool:
    """Whether all quotes of a command are closed."""
    try:
        shlex.split(command)
    except ValueError:
        return False
    return True


def commands() -> list[tuple[str, list[str]]]:
    """The commands of the page in order, each with the lines of its output that the page shows."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        for line in block.splitlines():
            if found and not is_whole(found[-1][0]):
                found[-1] = f"{found[-1][0]}\n{line}", []
            elif line.startswith("$ "):
                found.append((line.removeprefix("$ "), []))
            else:
                found[-1][1].append(line)
    return found


def lines_before_loading(output: list[str]) -> set[str]:
    """The words of each line, without the times of loading, which differ between machines, and what is cut."""
    counted = output[: output.index("Loading")] if "Loading" in output else output
    return {" ".join(line.split()) for line in counted if CUT not in line}


@pytest.mark.minutes
@pytest.mark.usefixtures("forked_runs", "decoded")
def test_commands_of_the_quickstart_lead_to_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bench").symlink_to(CHECKOUT / "bench")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("bench.console.console.PROGRAM", "catlip-bench")
    for command, shown in commands():
        for whole, part in SMALLER.items():
            command = command.replace(whole, part)  # noqa: PLW2901
        program, *words = shlex.split(command, comments=True)
        if program != "catlip-bench":
            subprocess.run(["bash", "-ec", command], check=True)
            continue
        assert main(words) == 0, command
        printed = lines_before_loading(capfd.readouterr().out.splitlines())
        if words[0] == "data":
            assert lines_before_loading(shown) <= printed
            assert len(printed) > 20
    document = Document(Path("results/index.html").read_text(encoding="utf-8"))
    assert [row[0].split("|")[0] for row in document.tables["The answer in figures"][1:]] == ["CLIP", "CatLIP"]
    assert "data:image/webp" in Path("data.html").read_text(encoding="utf-8")
