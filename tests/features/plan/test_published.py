"""The errors of a plan are those on published trainings, and the factor that one GPU lacks is modelled."""

import math
from dataclasses import replace
from statistics import fmean, median

import numpy as np
import pytest
from scipy.optimize import brentq

from bench.environment.gpu_specs import GPU_SPECS
from bench.experiment.experiments import get_experiment
from bench.features.plan.collectives import ParameterCounts
from bench.features.plan.interconnect import interconnect_from_data_sheet
from bench.features.plan.model import (
    MEDIAN_ERROR,
    PUBLISHED_HIGH,
    PUBLISHED_LOW,
    UTILISATION,
    ForwardFlopsPerPair,
    PlanInputs,
    compute_profile_from_flops,
    predict_step_seconds,
)
from bench.features.plan.workload import count_communicated_parameters
from bench.interfaces.method import get_method
from tests.features.plan.published_runs import (
    MODELS,
    PUBLISHED_RUNS,
    PublishedRun,
)
from tests.released_flops import forward_flops_as_released

# Networks of a node with 8 A100: DGX, Amazon's p4d, Google's a2-highgpu.
NODE_GBITS = (
    1600.0,
    400.0,
    100.0,
)


def with_released_loss(case: PlanInputs) -> PlanInputs:
    """Return a case with the loss of open_clip, NeMo and CoreNet, which gathers both modalities and has six products.

    Source: `gather_features` and `ClipLoss` of open_clip's src/open_clip/loss.py (89fb801), and CoreNet's
    corenet/loss_fn/multi_modal_img_text/contrastive_loss_clip.py (1aa3acd).
    """
    communication = get_method(case.parameter_counts.method).communication
    if communication is None or not communication.normaliser_all_reduces:
        return case
    weights = replace(case.parameter_counts, feature_width=2 * case.parameter_counts.feature_width)
    loss_flops = case.compute.loss_flops_per_second * 2 * communication.loss_products / 6
    return replace(
        case,
        parameter_counts=weights,
        compute=replace(case.compute, loss_flops_per_second=loss_flops),
    )


def planned_rate(run: PublishedRun, utilisation: float) -> float:
    """Return the planned images/s and GPU of a published training; without a batch communication is left out."""
    model, device = MODELS[run.model], run.device
    work = ForwardFlopsPerPair(1e9 * model.gflops, is_recomputed=run.is_recomputed)
    compute = compute_profile_from_flops(work, device, utilisation, "autocast")
    if run.batch is None or device.network_bytes_per_second is None:
        return 1 / (compute.forward_seconds + compute.backward_seconds)
    weights = ParameterCounts(
        "clip", round(1e6 * model.megaparameters), 0, 0, 0, 0, 1, model.width, 0
    )
    links = interconnect_from_data_sheet(device)
    case = with_released_loss(PlanInputs(run.model, weights, compute, float(run.batch)))
    return predict_step_seconds(case, links, run.gpus).images_per_second / run.gpus


def reached_utilisation(run: PublishedRun) -> float:
    """Return the utilisation, communication excluded, at which a training is planned as it was."""
    return float(
        brentq(
            lambda utilisation: planned_rate(run, utilisation) - run.midpoint,
            run.utilisation / 2,
            1.0,
        )
    )


def test_utilisation_is_the_geometric_mean_of_published_trainings() -> None:
    """B/16 on 176 A100 reaches 13.1 %."""
    mean = math.exp(fmean(math.log(reached_utilisation(run)) for run in PUBLISHED_RUNS))
    assert mean == pytest.approx(UTILISATION, abs=5e-4)
    assert PUBLISHED_RUNS[1].utilisation == pytest.approx(0.131, abs=5e-4)
    assert len(PUBLISHED_RUNS) == 26
    assert sum("H100" in run.device.name for run in PUBLISHED_RUNS) == 2


def test_stated_errors_are_those_on_published_trainings() -> None:
    ratios = [run.midpoint / planned_rate(run, UTILISATION) for run in PUBLISHED_RUNS]
    assert median(abs(1 / ratio - 1) for ratio in ratios) == pytest.approx(MEDIAN_ERROR, abs=5e-3)
    assert np.quantile(ratios, [0.1, 0.9]) == pytest.approx(
        [PUBLISHED_LOW, PUBLISHED_HIGH], abs=5e-3
    )


@pytest.mark.parametrize(
    ("size", "gpus", "expected"),
    [
        pytest.param("vit-b16", (256, 64), (1.004, 1.069), marks=pytest.mark.slow),
        pytest.param("vit-h16", (512, 256), (1.001, 1.022), marks=pytest.mark.exhaustive),
    ],
)
def test_factor_that_one_gpu_lacks_is_that_of_the_claims(
    size: str, gpus: tuple[int, int], expected: tuple[float, float]
) -> None:
    """GPU-seconds of CLIP over CatLIP's, over that ratio without communication and without captions of other GPUs.

    The range is over networks, and from this project's loss to the released one, at the utilisation of a plan.
    """
    device = GPU_SPECS["a100"]
    cases = []
    for method in ("clip", "catlip"):
        experiment = get_experiment(f"{method}-{size}-datacomp")
        work = ForwardFlopsPerPair(forward_flops_as_released(experiment), is_recomputed=True)
        compute = compute_profile_from_flops(
            work, device, UTILISATION, experiment.runtime.clip_loss_precision
        )
        weights = count_communicated_parameters(experiment)
        cases.append(
            PlanInputs(experiment.name, weights, compute, experiment.mean_device_batch_size)
        )
    factors = []
    for gbits in NODE_GBITS:
        links = interconnect_from_data_sheet(device, 0.8 * gbits / 8 / device.gpus_per_node)
        for pair in (cases, [with_released_loss(case) for case in cases]):
            shares = []
            for case, number in zip(pair, gpus, strict=True):
                step = predict_step_seconds(case, links, number)
                shares.append(
                    step.seconds
                    / (
                        step.seconds
                        - step.exposed_communication_seconds
                        - step.extra_negatives_seconds
                    )
                )
            factors.append(shares[0] / shares[1])
    assert (min(factors), max(factors)) == pytest.approx(expected, abs=5e-4)
