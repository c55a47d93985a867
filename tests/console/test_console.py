"""What is printed: text from data or files cannot act on a terminal, and a reader may end before it has all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.console.console import escape_unprintable, log
from bench.console.tables import print_tables
from bench.environment.circumstances import CHECKOUT
from bench.tables.tables import Table

PRINT_PROGRAM_HERE_AND_IN_A_CHILD = """
import subprocess, sys

CHILD = "from bench.console.console import PROGRAM; print(PROGRAM)"
exec(CHILD)
sys.stdout.flush()
subprocess.run([sys.executable, "-c", CHILD])
"""


@given(st.text())
def test_escaped_text_is_printable_and_equals_a_text_that_is(text: str) -> None:
    escaped = escape_unprintable(text)
    assert escaped.isprintable()
    assert text.isprintable() == (escaped == text)


@given(st.text(st.characters(codec="ascii", exclude_characters="\\")))
def test_escapes_of_ascii_text_without_backslashes_decode_to_the_text(text: str) -> None:
    assert escape_unprintable(text).encode("ascii").decode("unicode_escape") == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x07\0", r"\x1b[2J\x07\x00"),
        ("\x9b31m \u202egod \u2028 \ud83d", r"\x9b31m \u202egod \u2028 \ud83d"),
    ],
)
def test_control_characters_are_escaped(
    text: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert escape_unprintable(text) == shown
    log(text)
    assert capsys.readouterr().err == f"{shown}\n"
    print_tables([Table.from_dicts("T", [{"what": text}])])
    assert shown in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "program"), [("catlip-bench", "catlip-bench"), ("__main__.py", "python -m bench")]
)
def test_child_processes_name_the_program_as_it_was_started(
    name: str, program: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(PRINT_PROGRAM_HERE_AND_IN_A_CHILD)
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    environment.pop("CATLIP_BENCH_PROGRAM")
    printed = subprocess.check_output([sys.executable, tmp_path / name], text=True, env=environment)
    assert printed.splitlines() == [program] * 2


@pytest.mark.parametrize("words", [["list", "--fields"], ["report", "--help"]])
def test_reader_that_ends_early_leaves_no_message_and_exit_code_141(words: list[str]) -> None:
    """As `| head` does; 141 is what a shell reports for SIGPIPE."""
    command = [sys.executable, "-m", "bench", *words]
    child = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout
    child.stdout.close()
    assert (child.communicate()[1], child.returncode) == (b"", 141)
