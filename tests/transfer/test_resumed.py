"""The verb `transfer` is resumed where it stopped."""

from pathlib import Path

import pytest

from bench.__main__ import main
from bench.records.record import read_record
from tests.chaos.short import short_experiment, train_in_process
from tests.transfer.trees import folders


@pytest.mark.usefixtures("forked_runs")
def test_scoring_resumes_where_it_stopped(
    own_results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is scored stays to the last byte, and what is scored again gets the same scores."""
    tower = own_results / "tower.safetensors"
    train_in_process(short_experiment("catlip"), own_results)
    root = folders(own_results / "colours", {"train": 6, "test": 4})
    tasks = ("--score-on", str(root), "--protocol", "k-nn")
    arguments = ["transfer", str(tower), *tasks, "--results", str(own_results)]
    assert main([*arguments, "--resume"]) == 2
    assert "comparison to resume" in capsys.readouterr().err
    assert main(arguments) == 0
    records = {path: path.read_bytes() for path in own_results.glob("*.*.json")}
    assert len(records) == 4  # the tower, itself untrained, and features of two kinds
    lost = {path: read_record(path).measured for path in sorted(records)[::3]}
    for path in lost:
        path.unlink()
    assert main([*arguments, "--resume"]) == 0
    assert {*own_results.glob("*.*.json")} == records.keys()
    assert all(
        path.read_bytes() == content for path, content in records.items() if path not in lost
    )
    assert all(read_record(path).measured == measured for path, measured in lost.items())
    other = tower.with_name("other.safetensors")
    other.write_bytes(tower.read_bytes())
    assert main(["transfer", str(other), *tasks, "--results", str(own_results), "--resume"]) == 2
    assert "comparison to resume" in capsys.readouterr().err
