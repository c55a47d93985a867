"""A slowdown planted in one part of a step is found in the factor of that part, and in no other.

Planted seconds advance the clocks of the runs and take no time, so that they are long beside any step on any machine.
"""

import math
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace

import bench.measure.speed
import bench.train.attention
import bench.train.step
import bench.train.weight_average
import losses.contrastive
from bench.experiment.config import Experiment
from bench.features.explain.decomposition import RatioDecomposition, decompose_ratio_by_ladder
from bench.features.explain.ladder import HEAD, PADDING, TEXT_TOWER, plan_ladder
from bench.measure.speed import measure_speed
from bench.records.record import Record, StepFlops
from tests.reports.conftest import COMPARISON, HERE
from tests.small import two_blocks

CPU = torch.device("cpu")
PLANTED_SECONDS = 1e9
# In logarithms: a real step that a busy machine makes 150 times as slow; planted are 20.
LARGEST_OF_OTHERS = 5.0
NO_FLOPS = StepFlops(image_forward=1, text_forward=1, forward=1, step=1)
Plant = Callable[[Any, str], None]


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Make every call of a function take the planted seconds by the clocks of the process."""
    torch.set_num_threads(1)
    # Which takes longer than all else.
    monkeypatch.setattr(
        bench.measure.speed, "find_or_measure_peak_flops_and_source", lambda *_: (None, "")
    )
    real, planted = time.perf_counter, [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: real() + planted[0])

    def plant_in(owner: Any, name: str, when: Callable[..., bool] = lambda *_: True) -> None:
        function = getattr(owner, name)

        def slow(*arguments: Any, **keywords: Any) -> Any:
            planted[0] += PLANTED_SECONDS if when(*arguments) else 0.0
            return function(*arguments, **keywords)

        monkeypatch.setattr(owner, name, slow)

    return plant_in


def decomposed(results: Path, chosen: Sequence[str], **changes: object) -> RatioDecomposition:
    """Time every experiment of the ladder from CLIP to CatLIP once, in this process."""
    fewer = {
        "batch_size": 4,
        "images_seen": 96,
        "warmup_images": 0,
        "timed_windows": 4,
        "subset": "random:32",
    }
    baseline, named = (two_blocks(method, **fewer | changes) for method in ("clip", "catlip"))
    ladder, experiments = plan_ladder(baseline, named, chosen)

    def timed(experiment: Experiment, round_: int) -> Record:
        run = replace(
            measure_speed(experiment, CPU, results, round_, NO_FLOPS),
            window_core_waits=(),
            phase_core_waits=(),
        )
        return Record(
            comparison=COMPARISON, experiment=experiment, circumstances=HERE, measured=run
        )

    records = [Record(comparison=COMPARISON, experiment=named, circumstances=HERE, measured=ladder)]
    records += [timed(experiment, 0) for experiment in experiments]
    found = decompose_ratio_by_ladder(records)
    assert found is not None
    return found


def logarithms(found: RatioDecomposition) -> dict[str, float]:
    """Return the logarithm of each cause's ratio of whole steps."""
    return {
        cause.cause: math.log(cause.whole_step.value)
        for cause in found.causes
        if cause.whole_step is not None
    }


@pytest.mark.parametrize(
    ("factor", "owner", "name"),
    [
        ("attention=fp32_softmax", bench.train.attention, "attention_with_fp32_softmax"),
        *(
            pytest.param(*case, marks=pytest.mark.exhaustive)
            for case in (
                (
                    "optimizer_kernel=foreach",
                    import_module("torch.optim.adam"),
                    "_multi_tensor_adam",
                ),
                ("gathered_features=both", losses.contrastive, "_loss_with_both_gathered"),
                ("ema_kernel=for_loop", bench.train.weight_average, "_update_average"),
                ("log_recomputed_grad_norm=true", bench.train.step, "compute_grad_norm_on_host"),
            )
        ),
    ],
)
def test_planted_slowdown_is_found_in_its_own_factor(
    factor: str, owner: Any, name: str, plant: Plant, results: Path
) -> None:
    plant(owner, name)
    found = decomposed(results, [factor], ema_decay=0.9)
    of_causes = logarithms(found)
    cause = factor.partition("=")[0]
    assert {*of_causes} == {cause, PADDING, TEXT_TOWER, HEAD}
    assert found.total.whole_step is not None
    assert of_causes[cause] > 0.75 * math.log(found.total.whole_step.value) > 2 * LARGEST_OF_OTHERS
    others = {name: log for name, log in of_causes.items() if name != cause}
    assert all(abs(log) < LARGEST_OF_OTHERS for log in others.values()), others
