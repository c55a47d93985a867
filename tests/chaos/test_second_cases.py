"""Faulty inputs, streams, disks and environments: each is answered by its exit code and words, and loses nothing."""

import re
from pathlib import Path

import pytest
import torch

from bench.console.console import USAGE, describe_error
from bench.profilers.memory import PeakMemory
from tests.chaos.hostile import capture_output
from tests.chaos.limits import stop_hanging
from tests.chaos.payloads import write_file
from tests.chaos.second_cases import MADE, Case, nothing, second_cases

MOST_MIB = 1024.0  # above the imports
CASES = second_cases()


def entries(folder: Path) -> dict[Path, object]:
    """Return what a user has in a folder: files by their content, links by their target, others by their kind."""
    found = dict[Path, object]()
    for path in folder.rglob("*"):
        if MADE not in path.relative_to(folder).parts:
            is_file = path.is_file() and not path.is_symlink()
            found[path] = path.read_bytes() if is_file else path.readlink() if path.is_symlink() else path.is_dir()
    return found


def violations(case: Case, folder: Path) -> list[str]:
    """Carry out a case; return what it violates."""
    with capture_output():
        case.write(folder)
    before, peak, error = entries(folder), PeakMemory(torch.device("cpu")), ""
    with capture_output() as streams, stop_hanging():
        try:
            code = case.act(folder)
        except (ValueError, OSError) as refusal:
            code, error = USAGE, describe_error(refusal)
    mebibytes = (peak.read().rss or 0) / 2**20
    text, after = "".join(stream.getvalue() for stream in streams) + error, entries(folder)
    found = [f"lost or changed: {path.name!r}" for path, content in before.items() if after.get(path) != content]
    found += [f"exit code {code}"] if code != case.code else []
    found += ["a traceback"] if "Traceback" in text else []
    found += [f"says: {text[-1000:]}"] if not re.search(case.text, text) else []
    found += ["control characters"] if not re.sub(r"[\r\n]", "", text).isprintable() else []
    return found + ([f"{mebibytes:.0f} MiB"] if mebibytes > MOST_MIB else [])


@pytest.mark.parametrize("name", CASES)
def test_faulty_case_loses_nothing_and_is_answered_by_its_exit_code_and_words(name: str, tmp_path: Path) -> None:
    assert not violations(CASES[name], tmp_path)


def test_what_a_case_violates_is_found(tmp_path: Path) -> None:
    def act(folder: Path) -> int:
        (folder / "mine").unlink()
        print("Traceback \x1b[2J")
        return 1

    wrong = violations(Case(lambda folder: write_file(folder / "mine", b""), act, 2, "a reason"), tmp_path)
    assert [text.split(":")[0] for text in wrong] == [
        "lost or changed",
        "exit code 1",
        "a traceback",
        "says",
        "control characters",
    ]
    assert not violations(Case(nothing, lambda _: 0, 0, ""), tmp_path)
