"""Options that are not accepted are one line, with exit code 2, on every command line."""

import math

import pytest

from bench.__main__ import main
from bench.console.options import ROUNDS_RANGE, require_option_in_range


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["list", "--json"], "Missing value for argument '--json'"),
        (
            ["measure", "clip-tiny", "--roundz", "3"],
            "Unrecognized options: --roundz, 3 Perhaps you meant: --rounds",
        ),
        (["measure", "clip-tiny", "--rounds", "x"], "Error parsing --rounds: "),
        (["train"], "name of the experiment"),
        (["report", "build", "a", "b"], "Unrecognized options: b"),
    ],
)
def test_options_that_are_not_accepted_are_one_line(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert text in line
    assert line.endswith("--help)")
    assert not {*line} & {*"╭╮╰╯│─"}
    assert "---" not in line
    assert not out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--help"], "--minutes"),
        (["report", "build", "--help"], "--out"),
        (["train", "--help"], "--set seed=N --out results/NAME-N"),
    ],
)
def test_help_goes_to_standard_output(
    arguments: list[str],
    text: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, err = capsys.readouterr()
    assert (ended.value.code, err) == (0, "")
    assert text in out


@pytest.mark.parametrize("value", [0, math.nan, math.inf, 1e308, int("9" * 400)])
def test_number_outside_of_its_range_is_refused_in_one_short_line(value: float) -> None:
    with pytest.raises(ValueError, match=r"^--rounds must be from 1 to 10000, got \S{1,30}$"):
        require_option_in_range("rounds", value, *ROUNDS_RANGE)
    for accepted in (None, *ROUNDS_RANGE):
        require_option_in_range("rounds", accepted, *ROUNDS_RANGE)
