"""The rounds of a comparison take the same steps: the first counts their FLOPs for all."""

from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from bench.orchestration.requests import SpeedRequest
from bench.record import Flops, Speed, read_record
from tests.small import small

CPU = torch.device("cpu")


def flops_of(request: SpeedRequest) -> Flops:
    request.carry_out(CPU, None)
    measured = read_record(request.paths[0]).measured
    assert isinstance(measured, Speed)
    return measured.flops


def test_later_rounds_have_the_flops_of_the_first_unless_the_code_changed(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = SpeedRequest(results=str(results), comparison="rounds", experiment=small("clip"))
    counted = flops_of(first)
    other = replace(counted, step=1)
    monkeypatch.setattr("bench.measure.speed.count_flops", lambda *_: other)
    assert flops_of(replace(first, round=1)) == counted
    monkeypatch.setattr("bench.orchestration.requests.current_commit", lambda: "another")
    assert flops_of(replace(first, round=2)) == other
    monkeypatch.undo()
    other_steps = replace(first, experiment=small("clip", windows=3), round=3)
    assert flops_of(other_steps) != counted  # a folder that was resumed with other settings
