"""The help of the program, and the line that answers an error that nobody expected."""

from pathlib import Path

import pytest

from bench.__main__ import main
from bench.cli.listing import List
from bench.cli.verbs import VERBS
from bench.console.console import UNEXPECTED


@pytest.mark.parametrize("name", [*VERBS])
def test_help_of_the_program_has_the_first_line_of_each_verb(name: str) -> None:
    """It is read from the source of the verb, whose module is not imported."""
    verb = VERBS.find(name)
    assert VERBS.summarize(name) == (verb.purpose, verb.__doc__.splitlines()[0])


def test_unexpected_error_is_one_line_that_names_the_file_of_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: List) -> int:
        raise RuntimeError("a defect")

    monkeypatch.setattr(List, "run", fail)
    assert main(["list"]) == UNEXPECTED
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: RuntimeError: a defect; please report this with ")
    file = Path(line.rpartition(" ")[2])
    assert "in fail" in file.read_text()
    file.unlink()
