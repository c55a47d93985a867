"""The verb `claim` and the page of a comparison show the same verdicts."""

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from bench.__main__ import main
from bench.features.claims.claims import CLAIMS, PUBLISHED_FIGURES, get_claim
from bench.features.claims.conditions import CONDITIONS
from bench.features.claims.section import describe_published_catlip_speed
from bench.features.claims.tables import format_speed_ratio
from bench.features.claims.verdict import judge_claim
from bench.records.record import Speed, read_records, record_path, write_record
from reports.page import render_comparison_page
from tests.features.claims.evidence import authors_runs, our_runs
from tests.reports.conftest import whole_comparison
from tests.reports.test_page import Document

NAME = "catlip-2.7x"
KEPT = Path(__file__).parent / "records"


def test_kept_records_of_a_cpu_are_shown_and_decide_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    judged = judge_claim(get_claim(NAME), read_records(KEPT))
    assert judged.verdict == "not decided"
    assert {"GPU: none, needed A100", "code: this project's, needed apple/corenet"} <= {
        *judged.evidence[0].unmet_conditions
    }
    assert format_speed_ratio(judged.evidence[0].ratio) == "1.33 (1.30 to 1.38)"
    assert main(["claim", "--records", str(KEPT)]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in CLAIMS)
    assert all(figure.title in shown for figure in PUBLISHED_FIGURES)


def test_claim_is_shown_with_its_evidence_and_conditions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in our_runs(get_claim(NAME), 2.0):
        record = replace(run, comparison="20261128T120000-a")
        name = f"round{record.measured.round}"  # type: ignore[union-attr]
        write_record(
            record, record_path(tmp_path, record.comparison, "speed", record.experiment_name, name)
        )
    document = tmp_path / "claim.json"
    assert main(["claim", NAME, "--records", str(tmp_path), "--json", str(document)]) == 0
    shown = capsys.readouterr().out
    assert "Not decided: code: this project's, needed apple/corenet" in shown
    for condition in CONDITIONS:
        assert condition.description.replace("\N{NO-BREAK SPACE}", " ") in shown
    (evidence,) = json.loads(document.read_text())["Evidence"]["rows"]
    assert evidence["records"] == "20261128T120000-a"
    assert evidence["measured (95 %)"].startswith("2.00 (")


def test_default_page_has_the_statement_and_both_verdicts() -> None:
    runs = [record for record in whole_comparison() if isinstance(record.measured, Speed)]
    without = Document(render_comparison_page("x", runs)).words()
    assert describe_published_catlip_speed() in without
    assert (
        "Not decided: no comparison timed both clip-vit-b16-datacomp and catlip-vit-b16-datacomp"
        in without
    )
    assert (
        "Not reproduced"
        in Document(
            render_comparison_page("x", runs, folder_records=authors_runs(get_claim(NAME), 1.4))
        ).words()
    )
    clip = [
        record
        for record in runs
        if record.experiment is not None and record.experiment.method == "clip"
    ]
    assert "As published" not in Document(render_comparison_page("x", clip)).words()
