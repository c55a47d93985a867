"""The help of the program, and the line that answers an error that nobody expected."""

from pathlib import Path

import pytest

from bench.__main__ import main
from bench.cli.listing import ListExperiments
from bench.console.console import UNEXPECTED
from bench.interfaces.verb import REPORT_VERBS, VERBS, LazyVerb, import_verb_class


@pytest.mark.parametrize(
    "verb", [*VERBS.values(), *REPORT_VERBS.values()], ids=lambda verb: verb.name
)
def test_every_verb_is_where_it_is_said_to_be(verb: LazyVerb) -> None:
    verbs = REPORT_VERBS if verb.name in REPORT_VERBS else VERBS
    assert verb.name == "report" or callable(import_verb_class(verb.name, verbs))
    assert verb.summary.endswith(".")


class PanicError(BaseException):
    """As libraries in Rust raise."""


@pytest.mark.parametrize("error", [RuntimeError("a defect"), PanicError("ow")])
def test_unexpected_error_is_one_line_that_names_the_file_of_its_traceback(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: ListExperiments) -> int:
        raise error

    monkeypatch.setattr(ListExperiments, "run", fail)
    assert main(["list"]) == UNEXPECTED
    (line,) = capsys.readouterr().err.splitlines()
    kind = type(error).__name__
    assert line.startswith(f"error: {kind}: {error}; please report this with ")
    file = Path(line.rpartition(" ")[2])
    assert "in fail" in file.read_text()
    file.unlink()
