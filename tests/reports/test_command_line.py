"""`report`: what it takes and what it answers."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from bench.interfaces.verb import REPORT_VERBS
from tests.report_command import main
from tests.reports.conftest import speed_record, write_records


@pytest.fixture
def results(tmp_path: Path) -> Path:
    records = [speed_record(name, 0) for name in ("clip-tiny", "catlip-tiny")]
    write_records(records, tmp_path)
    write_records([replace(one, comparison="2026-11-20-tiny") for one in records], tmp_path)
    return tmp_path


def test_build_draws_the_latest_comparison_and_names_the_others(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = results / "deep" / "page.html"
    assert main(["build", str(results), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    text = out.read_text(encoding="utf-8")
    assert "Comparison 2026-11-25-tiny" in text
    assert "<h3>2026-11-20-tiny</h3>" in text
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["biuld"], "no verb of report named 'biuld'; did you mean 'build'?"),
        (
            ["build", "RESULTS", "--only-comparison", "2026-11-25-tin"],
            "did you mean '2026-11-25-tiny'?",
        ),
        (
            ["build", "RESULTS", "--only-comparison", "*"],
            "(there are 2026-11-20-tiny, 2026-11-25-tiny)",
        ),
        (["build", "EMPTY"], "holds no records; run `python -m bench` first"),
        (["build", "EMPTY/none"], "holds no records; run `python -m bench` first"),
    ],
)
def test_impossible_request_lists_the_possible_ones(
    results: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    text: str,
) -> None:
    places = {"RESULTS": str(results), "EMPTY": str(tmp_path_factory.mktemp("empty"))}
    places["EMPTY/none"] = places["EMPTY"] + "/none"
    assert main([places.get(argument, argument) for argument in arguments]) == 2
    assert text in capsys.readouterr().err


def test_folder_of_damaged_records_alone_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "2026-11-25-tiny.speed.json").write_text("{")
    assert main(["build", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "2026-11-25-tiny.speed.json: not a record" in err
    assert "holds no records; run `python -m bench` first" in err


def test_damaged_file_of_a_folder_is_named_and_the_others_are_exported(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = results / "2026-11-25-tiny.memory.clip-tiny.json"
    broken.write_text("{")
    assert main(["export", str(results), "--out", str(tmp_path / "out" / "out.csv")]) == 3
    assert f"{broken}: not a record" in capsys.readouterr().err


HOSTILE, SPELLED_OUT = "\x1b[2J\x9bname\u202e", r"\x1b[2J\x9bname\u202e"


@pytest.mark.parametrize("verb", REPORT_VERBS)
def test_error_messages_are_escaped(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--out", "out"] if verb == "export" else []
    assert main([verb, HOSTILE, *more]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert SPELLED_OUT in err
    assert err.removesuffix("\n").isprintable()
