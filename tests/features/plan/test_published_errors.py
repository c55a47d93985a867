"""The errors of a plan on published trainings are said by what was left out of the fit."""

import json
from pathlib import Path

import pytest

from bench.__main__ import main
from bench.experiment.published import PUBLISHED_RUNS
from bench.features.plan.calibration import CLUSTER, GROUPINGS, published_errors


@pytest.mark.parametrize("left_out", GROUPINGS)
def test_published_trainings_are_predicted_by_their_interval_whatever_is_left_out(left_out: str) -> None:
    found = published_errors(left_out)
    assert len(found.errors) == len(PUBLISHED_RUNS)
    assert found.median < 0.3
    assert 0.7 <= found.coverage <= 0.9


def test_groups_of_a_cluster_contain_those_of_a_source() -> None:
    """Two publications are of JUWELS Booster, and two of Stability's cluster."""
    clusters = {(run.publication, run.cluster) for run in PUBLISHED_RUNS}
    assert len(clusters) == published_errors("one source").groups == published_errors(CLUSTER).groups + 2
    assert published_errors("one training").groups == len(PUBLISHED_RUNS)


def test_a_new_cluster_is_predicted_worse_than_a_further_training() -> None:
    assert published_errors(CLUSTER).median > 2 * published_errors("one training").median


def test_command_has_the_errors_of_each_grouping(tmp_path: Path) -> None:
    out = tmp_path / "published.json"
    assert main(["plan", "--published", "--json", str(out)]) == 0
    tables = json.loads(out.read_bytes())
    rows = {row["left out"]: row for row in tables["Errors by what is left out"]["rows"]}
    assert [*rows] == [*GROUPINGS]
    for left_out, row in rows.items():
        found = published_errors(left_out)
        assert (row["groups"], row["median error"], row["mean error"]) == (found.groups, found.median, found.mean)
    assert (
        f"The median error is {published_errors(CLUSTER).median:.0%}" in tables["Published trainings of CLIP"]["note"]
    )


def test_plan_at_a_predicted_utilisation_says_the_error_on_a_new_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    sentence = f"with a median error of {published_errors(CLUSTER).median:.0%}"
    assert main(["plan", "catlip-tiny", "--device", "a100"]) == 0
    assert sentence in capsys.readouterr().out
    assert main(["plan", "catlip-tiny", "--device", "a100", "--utilisation", "0.2"]) == 0
    assert sentence not in capsys.readouterr().out
