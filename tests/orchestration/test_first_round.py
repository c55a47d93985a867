"""The rounds of a comparison on a CPU take the same steps: the first counts their FLOPs for all."""

from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from bench.measure.heating import HEATING_SECONDS
from bench.orchestration.requests import SpeedRequest
from bench.records.record import Flops, Speed, read_record
from tests.small import small

CPU = torch.device("cpu")


def flops_of(request: SpeedRequest) -> Flops:
    request.carry_out(CPU, None)
    measured = read_record(request.paths[0]).measured
    assert isinstance(measured, Speed)
    return measured.flops


def test_later_rounds_have_the_flops_of_the_first(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = SpeedRequest(results=str(results), comparison="rounds", experiment=small("catlip"))
    counted = flops_of(first)
    assert flops_of(replace(first, comparison="alone", round=1)) == counted  # of the same steps
    other = replace(counted, step=1)
    monkeypatch.setattr("bench.measure.speed.count_flops", lambda *_: other)
    assert flops_of(replace(first, round=1)) == counted
    assert flops_of(replace(first, comparison="another", round=1)) == other
    monkeypatch.setitem(HEATING_SECONDS, "cpu", 0.0)  # as on a GPU, whose rounds take other steps
    assert flops_of(replace(first, round=2)) == other
