"""The verb `transfer` is taken up where it stopped."""

from pathlib import Path

import pytest
import torch

from bench.__main__ import main
from bench.faults.short import short
from bench.record import read_record
from bench.training.train import train


def test_a_scoring_is_taken_up_where_it_stopped(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is scored stays to the last byte, and what is scored again gets the same scores."""
    out, experiment = results / "taken-up", short("catlip")
    out.mkdir()
    tower = out / "tower.safetensors"
    train(experiment, torch.device("cpu"), results, {"all": experiment.images}, lambda _: tower)
    tasks = ("--task", "rooms", "--task", "Twemoji group", "--protocol", "k-nn")
    arguments = ["transfer", str(tower), *tasks, "--results", str(out)]
    assert main([*arguments, "--resume"]) == 2
    assert "comparison to go on with" in capsys.readouterr().err
    assert main(arguments) == 0
    records = {path: path.read_bytes() for path in out.glob("*.*.json")}
    assert len(records) == 2 * 4  # the tower, itself untrained, and features of two kinds
    lost = {path: read_record(path).measured for path in sorted(records)[::3]}
    for path in lost:
        path.unlink()
    assert main([*arguments, "--resume"]) == 0
    assert {*out.glob("*.*.json")} == records.keys()
    assert all(path.read_bytes() == content for path, content in records.items() if path not in lost)
    assert all(read_record(path).measured == measured for path, measured in lost.items())
    other = tower.with_name("other.safetensors")
    other.write_bytes(tower.read_bytes())
    assert main(["transfer", str(other), *tasks, "--results", str(out), "--resume"]) == 2
    assert "comparison to go on with" in capsys.readouterr().err
