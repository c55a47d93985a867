"""Names in another encoding are read where no document has to hold them, and are refused by name elsewhere."""

import os

import pytest

from bench.__main__ import main
from bench.console.console import format_error_on_one_line

LATIN1 = os.fsdecode(b"caf\xe9")


def require_one_line(text: str) -> None:
    """The last line names it, escaped."""
    line = text.splitlines()[-1]
    assert "is not UTF-8, rename the file or folder" in line
    assert r"caf\udce9" in line
    assert line.isprintable()


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "catlip-tiny", "--data", LATIN1],
        [LATIN1],
    ],
)
def test_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    require_one_line(capsys.readouterr().err)


def test_an_error_is_one_line() -> None:
    assert format_error_on_one_line(ValueError("first\n  second\x1b")) == r"first second\x1b"
