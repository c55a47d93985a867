"""The factor of communication in a ratio is a range, from our loss to the released one and over networks."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.environment.gpu_specs import GPU_SPECS
from bench.features.plan.collectives import ParameterCounts, data_sheet_interconnect, step_collectives
from bench.features.plan.inverse import (
    NODE_GBITS,
    CaseOnGpus,
    CasePair,
    communication_factor,
    communication_factors,
    factor_range,
)
from bench.features.plan.model import OVERLAP, Cluster, ComputeProfile, PlanCase, plan_step
from bench.features.plan.published import with_released_loss

A100 = Cluster(data_sheet_interconnect(GPU_SPECS["a100"]), OVERLAP)


def case(method: Any, batch: float = 256) -> PlanCase:
    compute = ComputeProfile(0.0, 1e-3, 2e-3, 0.0, batch, 1e13)
    width = 512 if method in ("clip", "superclip", "siglip") else 0
    return PlanCase(method, ParameterCounts(method, 150_000_000, 0, 0, 0, 0, 1, width, 0), compute, batch)


def pair(baseline: str = "clip", gpus: int = 256) -> CasePair:
    return CaseOnGpus(case(baseline), gpus), CaseOnGpus(case("catlip"), gpus)


@pytest.mark.parametrize("method", ["clip", "superclip"])
def test_released_loss_gathers_twice_the_features_and_computes_six_products_in_place_of_four(method: str) -> None:
    own, released = case(method), with_released_loss(case(method))
    steps = [plan_step(one, A100, 256) for one in (own, released)]
    assert steps[1].extra_negatives_seconds / steps[0].extra_negatives_seconds == pytest.approx(6 / 4)
    gathered = [
        sum(one.size for one in step_collectives(side.weights, "ddp", 4, 256, 256) if "caption features" in one.name)
        for side in (own, released)
    ]
    assert gathered[1] == 2 * gathered[0]


@pytest.mark.parametrize("method", ["siglip", "catlip", "superclass", "distill"])
def test_losses_without_a_gather_of_both_modalities_are_planned_as_ours(method: str) -> None:
    assert with_released_loss(case(method)) == case(method)


def test_factor_is_the_ratio_over_that_of_the_computation() -> None:
    """Of steps that are computed in 1.5 of the other's time."""
    baseline, experiment = pair()
    slower = replace(baseline, case=replace(baseline.case, compute=baseline.case.compute.speed_up(1 / 1.5)))
    rates = [plan_step(side.case, A100, side.gpus).images_per_second for side in (slower, experiment)]
    assert 1.5 * communication_factor((slower, experiment), A100) == pytest.approx(rates[1] / rates[0])


def test_factor_of_one_gpu_is_one_on_every_network() -> None:
    assert factor_range(communication_factors(pair(gpus=1), A100)) == pytest.approx((1, 1))


def test_factor_grows_with_the_released_loss_and_on_slower_networks() -> None:
    factors = communication_factors(pair(), A100)
    assert [one.node_gbits for one in factors] == pytest.approx([1600, *NODE_GBITS])
    assert all(1 < one.own < one.released for one in factors)
    assert all(one.own < slower.own and one.released < slower.released for one, slower in pairwise(factors))
    assert factor_range(factors) == (factors[0].own, factors[-1].released)


def test_networks_faster_than_the_planned_one_are_left_out() -> None:
    slow = replace(A100, links=replace(A100.links, network_bytes_per_second=2e9))
    assert [one.node_gbits for one in communication_factors(pair(), slow)] == pytest.approx([160, 100])


def test_plan_prints_the_range_and_that_images_per_gpu_make_no_difference_by_construction(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "plan.json"
    options = ["--device", "a100", "--gpus", "64"]
    assert main(["plan", "clip-tiny", "catlip-tiny", *options, "--json", str(out)]) == 0
    table = json.loads(out.read_bytes())["Factor of communication in the ratio"]
    low, high = (one(row[key] for row in table["rows"] for key in [*row][2:]) for one in (min, max))
    assert f"catlip-tiny: {low:.3f} to {high:.3f}." in table["note"]
    assert "by construction" in capsys.readouterr().out
    assert main(["plan", "clip-tiny", "catlip-tiny", *options, "--solve", "2.7"]) == 0
    assert "by construction" in capsys.readouterr().out
