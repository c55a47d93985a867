"""Standard streams that are closed, full, or cannot encode what is printed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.environment.circumstances import CHECKOUT

LIST = "list --fields"


def shell(words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command line in a shell, which can close streams."""
    command, there = f"exec '{sys.executable}' -m {words}", os.environ | environment
    return subprocess.run(
        ["sh", "-c", command], cwd=CHECKOUT, env=there, capture_output=True, text=True, check=False
    )


def test_closed_standard_error_and_input_do_not_end_a_command() -> None:
    done = shell(f"bench {LIST} <&- 2>&-")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == shell(f"bench {LIST}").stdout
    assert shell("bench measure nothing 2>&-").returncode == 2


@pytest.mark.parametrize(
    ("words", "code"), [("measure nothing", 2), ("label FILE --workers 1 --out OUT", 0)]
)
def test_full_standard_error_leaves_the_exit_code(words: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("caption\na dog\n")
    words = words.replace("FILE", f"{tmp_path}/a.csv --vocabulary pack-synsets").replace(
        "OUT", f"{tmp_path}/out"
    )
    assert shell(f"bench {words} 2>/dev/full").returncode == code


def test_child_process_inherits_a_standard_error_where_it_was_closed() -> None:
    """In place of the first file that it opens, which its messages would damage."""
    child = "import sys; sys.stdin.read(); print(sys.stderr is not None)"
    run = f"lambda: print(subprocess.run([sys.executable, '-c', {child!r}], capture_output=False).returncode) or 0"
    code = f"import subprocess, sys\nfrom bench.console.console import run_with_streams\nrun_with_streams({run})"
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" <&- 2>&-', sys.executable, code],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["True", "0"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (f"{LIST} >&-", "error: standard output is closed: redirect it to a file, or to /dev/null"),
        (f"{LIST} >/dev/full", "error: .*No space left on device"),
        ("report --help >/dev/full", "error: .*No space left on device"),
    ],
)
def test_closed_or_full_standard_output_is_one_line(words: str, text: str) -> None:
    done = shell(f"bench {words}")
    assert done.returncode == 2
    assert re.fullmatch(f"{text}\n", done.stderr)


def test_characters_that_the_terminal_lacks_are_escaped() -> None:
    words = "bench label --explain 'a dog, ein Hünd, 犬'"
    whole, narrow = shell(words, PYTHONIOENCODING="utf-8"), shell(words, PYTHONIOENCODING="ascii")
    assert (narrow.returncode, narrow.stderr) == (0, "")
    assert "犬" in whole.stdout
    assert narrow.stdout == whole.stdout.encode("ascii", "backslashreplace").decode()
