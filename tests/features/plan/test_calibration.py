"""The utilisation of published trainings is predicted with an interval that holds what it says."""

import json
import math
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from bench.__main__ import main
from bench.environment.gpu_specs import GPU_SPECS
from bench.experiment.published import MODELS, NEMO, PUBLISHED_RUNS
from bench.features.plan.calibration import (
    COVERAGE,
    GROUPINGS,
    UtilisationModel,
    fit_published_utilisations,
    predict_leaving_group_out,
)
from bench.features.plan.model import OVERLAP
from bench.features.plan.published import NCCL, fit_utilisation
from bench.features.plan.workload import predict_utilisation
from tests.small import small

UTILISATIONS = [fit_utilisation(run, NCCL, OVERLAP) for run in PUBLISHED_RUNS]


@pytest.mark.parametrize("left_out", GROUPINGS)
def test_predictions_of_a_left_out_group_are_independent_of_its_trainings(left_out: str) -> None:
    group_of, _ = GROUPINGS[left_out]
    groups = [group_of(run) for run in PUBLISHED_RUNS]
    found = predict_leaving_group_out(UTILISATIONS, group_of)
    for group in {*groups}:
        changed = [one / 3 if own == group else one for one, own in zip(UTILISATIONS, groups, strict=True)]
        again = predict_leaving_group_out(changed, group_of)
        assert all(found[at] == again[at] for at, own in enumerate(groups) if own == group)


def test_a_term_that_no_training_has_is_0_and_costs_no_degree_of_freedom() -> None:
    runs = [run for run in PUBLISHED_RUNS if run.source != NEMO]
    model = UtilisationModel.fit(runs, [fit_utilisation(run, NCCL, OVERLAP) for run in runs])
    assert model.degrees == len(runs) - 2
    a100, h100 = (GPU_SPECS[name] for name in ("a100", "h100"))
    assert model.predict(41.0, h100, is_nemo=True).value == pytest.approx(model.predict(41.0, a100).value)


def test_coefficients_of_trainings_without_scatter_are_found() -> None:
    """A size's exponent of 0.3, NeMo twice and Hopper half as good."""
    exact = [
        0.05
        * MODELS[run.model].gflops ** 0.3
        * (2 if run.source == "NeMo" else 1)
        / (2 if run.device.name_words == "H100" else 1)
        for run in PUBLISHED_RUNS
    ]
    model = UtilisationModel.fit(PUBLISHED_RUNS, exact)
    for device, factor in (("a100", 1), ("h100", 1 / 2), ("h200", 1 / 2), ("l40s", 1)):
        found = model.predict(20.0, GPU_SPECS[device])
        assert found.value == pytest.approx(0.05 * 20**0.3 * factor)
        assert found.low == pytest.approx(found.high, rel=1e-6)


def test_interval_covers_new_trainings_as_often_as_it_says() -> None:
    """Trainings are drawn from the regression with its scatter; the share of 4,000 has an error of 0.6 %."""
    truth, generator = fit_published_utilisations(), np.random.default_rng(0)
    kinds = [(MODELS[run.model].gflops, run.device, run.source == "NeMo") for run in PUBLISHED_RUNS]
    centers = np.log([truth.predict(gflops, device, is_nemo=is_nemo).value for gflops, device, is_nemo in kinds])
    covered = []
    for _ in range(4000):
        drawn = np.exp(centers + truth.deviation * generator.standard_normal(len(centers)))
        found = UtilisationModel.fit(PUBLISHED_RUNS, drawn).predict(41.0, GPU_SPECS["a100"])
        center = math.log(truth.predict(41.0, GPU_SPECS["a100"]).value)
        new = math.exp(center + truth.deviation * generator.standard_normal())
        covered.append(found.low <= new <= found.high)
    assert fmean(covered) == pytest.approx(COVERAGE, abs=0.025)


def test_costs_inherit_the_interval_and_a_given_utilisation_has_none(tmp_path: Path) -> None:
    """Images/s are proportional to the utilisation where nothing is sent; costs are inversely so."""
    out, command = tmp_path / "plan.json", ["plan", "catlip-tiny", "--device", "h100", "--gpus", "1", "--price", "2"]
    assert main([*command, "--json", str(out)]) == 0
    rows = {row["figure"]: row for row in json.loads(out.read_bytes())["80% intervals"]["rows"]}
    utilisation = predict_utilisation(small("catlip"), GPU_SPECS["h100"])
    assert [*rows] == ["images/s", "hours", "GPU-hours", "price", "kWh of the GPUs"]
    for name, row in rows.items():
        low, high = utilisation.low / utilisation.value, utilisation.high / utilisation.value
        expected = (low, high) if name == "images/s" else (1 / high, 1 / low)
        assert (row["low"] / row["predicted"], row["high"] / row["predicted"]) == pytest.approx(expected)
    assert main([*command, "--utilisation", "0.2", "--json", str(out)]) == 0
    assert json.loads(out.read_bytes())["80% intervals"]["rows"] == []
