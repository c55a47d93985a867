"""The utilisation of published trainings is predicted with an interval that holds what it says."""

import json
import math
from pathlib import Path
from statistics import fmean, median

import numpy as np
import pytest

from bench.__main__ import main
from bench.environment.gpu_specs import GPU_SPECS
from bench.plan.calibration import COVERAGE, UtilisationModel, leave_one_out, published_model
from bench.plan.model import OVERLAP
from bench.plan.published import MODELS, NCCL, PUBLISHED_RUNS, fit_utilisation, predict_gpu_rate
from bench.plan.workload import predict_utilisation
from tests.small import small

UTILISATIONS = [fit_utilisation(run, NCCL, OVERLAP) for run in PUBLISHED_RUNS]


def test_left_out_trainings_are_predicted_within_15_percent_and_by_their_interval() -> None:
    predictions = leave_one_out(UTILISATIONS)
    pairs = [*zip(PUBLISHED_RUNS, predictions, strict=True)]
    errors = [predict_gpu_rate(run, one.value, NCCL, OVERLAP)[0] / run.midpoint - 1 for run, one in pairs]
    inside = [one.low <= found <= one.high for one, found in zip(predictions, UTILISATIONS, strict=True)]
    assert median(map(abs, errors)) <= 0.15
    assert 0.75 <= fmean(inside) <= 0.9


def test_prediction_of_a_left_out_training_is_independent_of_it() -> None:
    for at in range(len(PUBLISHED_RUNS)):
        changed = [*UTILISATIONS]
        changed[at] /= 3
        assert leave_one_out(changed)[at] == leave_one_out(UTILISATIONS)[at]


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
    truth, generator = published_model(), np.random.default_rng(0)
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
