"""The verb `claim` and the page of a comparison show the same verdicts."""

import json
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.features.claims.claims import CLAIMS, PUBLISHED_FIGURES
from bench.features.claims.conditions import CONDITIONS
from bench.features.claims.section import describe_published_catlip_speed
from bench.features.claims.verdict import format_speed_ratio
from bench.measure.comparison_records import select_comparison_records
from bench.records.record import Speed, read_records, record_path, write_record
from reports.page import render_comparison_page
from tests.features.claims.evidence import authors_runs, with_run
from tests.reports.conftest import whole_comparison
from tests.reports.test_page import Document

NAME = "catlip-2.7x"
KEPT = Path(__file__).parent / "records"
COMPARISON = "20261128T170956-measure"


def test_claims_are_listed_and_records_of_this_projects_code_decide_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["claim", "--records", str(KEPT)]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in CLAIMS)
    assert all(figure.title in shown for figure in PUBLISHED_FIGURES)
    assert shown.count("Not decided: no comparison timed the authors' code") == len(CLAIMS)


def test_kept_records_have_the_ratio_that_the_docs_name() -> None:
    throughputs = select_comparison_records(COMPARISON, read_records(KEPT, COMPARISON)).throughputs
    ratios = [format_speed_ratio(row.ratio) for row in throughputs if row.ratio is not None]
    assert ratios == ["1.33 (1.30 to 1.38)"]


def test_claim_is_shown_with_its_evidence_and_conditions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in authors_runs(CLAIMS[NAME], 2.0):
        record = with_run(data_wait_share=0.5)(run)
        name = f"round{record.measured.round}"  # type: ignore[union-attr]
        write_record(
            record,
            record_path(tmp_path, "released", "released-run", record.experiment_name, name),
        )
    document = tmp_path / "claim.json"
    assert main(["claim", NAME, "--records", str(tmp_path), "--json", str(document)]) == 0
    shown = capsys.readouterr().out
    assert "Not decided: waiting for data: 50.0 % of the windows' time, needed at most 5 %" in shown
    for condition in CONDITIONS:
        assert condition.replace("\N{NO-BREAK SPACE}", " ") in shown
    (evidence,) = json.loads(document.read_text())["Evidence"]["rows"]
    assert evidence["records"] == "released"
    assert evidence["measured (95 %)"].startswith("2.00 (")


def test_default_page_has_the_statement_and_both_verdicts() -> None:
    runs = [record for record in whole_comparison() if isinstance(record.measured, Speed)]
    without = Document(render_comparison_page("x", runs)).words()
    assert describe_published_catlip_speed() in without
    assert (
        "Not decided: no comparison timed the authors' code with both clip-vit-b16-datacomp and catlip-vit-b16-datacomp"
        in without
    )
    assert (
        "Not reproduced"
        in Document(
            render_comparison_page("x", runs, folder_records=authors_runs(CLAIMS[NAME], 1.4))
        ).words()
    )
    clip = [
        record
        for record in runs
        if record.experiment is not None and record.experiment.method == "clip"
    ]
    assert "As published" not in Document(render_comparison_page("x", clip)).words()
