"""A slowdown planted in one part of a step is found in the factor of that part, and in no other.

Planted seconds advance the clocks of the runs and take no time, so that they are long beside any step on any machine.
"""

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
from bench.data.sample_stream import SampleLoader
from bench.experiment.config import Experiment
from bench.features.explain.decomposition import Decomposition, decompose
from bench.features.explain.ladder import HEAD, PADDING, TEXT_TOWER, WAITING
from bench.features.explain.verb import plan_ladder
from bench.measure.speed import measure_speed
from bench.records.record import Flops, Record
from tests.data.shards import write_shards
from tests.reports.conftest import COMPARISON, HERE
from tests.small import two_blocks

CPU = torch.device("cpu")
PLANTED_SECONDS = 1e9
LARGEST_OF_OTHERS = 5.0  # in logarithms: a real step that a busy machine makes 150 times as slow; planted are 20
NO_FLOPS = Flops(image_forward=1, text_forward=1, forward=1, step=1)
Plant = Callable[[Any, str], None]


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Make every call of a function take the planted seconds by the clocks of the process."""
    torch.set_num_threads(1)
    monkeypatch.setattr(bench.measure.speed, "peak_flops", lambda *_: (None, ""))  # which takes longer than all else
    real, planted = time.perf_counter, [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: real() + planted[0])

    def plant_in(owner: Any, name: str, when: Callable[..., bool] = lambda *_: True) -> None:
        function = getattr(owner, name)

        def slow(*arguments: Any, **keywords: Any) -> Any:
            planted[0] += PLANTED_SECONDS if when(*arguments) else 0.0
            return function(*arguments, **keywords)

        monkeypatch.setattr(owner, name, slow)

    return plant_in


def decomposed(results: Path, chosen: Sequence[str], **changes: object) -> Decomposition:
    """Time every configuration of the ladder from CLIP to CatLIP once, in this process, and its ends once more."""
    fewer = {"batch_size": 4, "images": 96, "warmup_images": 0, "windows": 4, "subset": "random:32"}
    baseline, first = (two_blocks(method, **fewer | changes) for method in ("clip", "catlip"))
    ladder, configurations = plan_ladder(first, baseline, chosen, factorial=False, on_gpu=False)

    def timed(experiment: Experiment, round_: int) -> Record:
        run = replace(measure_speed(experiment, CPU, results, round_, NO_FLOPS), utilisation={})
        return Record(comparison=COMPARISON, experiment=experiment, circumstances=HERE, measured=run)

    records = [Record(comparison=COMPARISON, experiment=first, circumstances=HERE, measured=ladder)]
    records += [timed(one, 0) for one in configurations]
    records += [timed(one, 1) for one in (configurations[0], configurations[-1])]
    found = decompose(records)
    assert found is not None
    return found


def logarithms(found: Decomposition) -> dict[str, float]:
    """Return the logarithm of each cause's ratio of whole steps."""
    parts = [part for part in (*found.parts, found.waiting) if part is not None]
    return {part.cause: part.step.mean for part in parts if part.step is not None}


def require_found_in(cause: str, found: Decomposition) -> None:
    """The cause has nearly all of the logarithm of the whole, others what a busy machine may do, and all add up."""
    of_causes = logarithms(found)
    assert found.whole.step is not None
    assert found.product.step is not None
    assert of_causes[cause] > 0.75 * found.whole.step.mean > 2 * LARGEST_OF_OTHERS
    others = {name: log for name, log in of_causes.items() if name != cause}
    assert all(abs(log) < LARGEST_OF_OTHERS for log in others.values()), others
    assert sum(of_causes.values()) == pytest.approx(found.product.step.mean)


@pytest.mark.parametrize(
    ("cause", "owner", "name"),
    [
        ("kernel", bench.train.attention, "attention_with_fp32_softmax"),
        ("gather", losses.contrastive, "_loss_of_both_gathered"),
        ("optimizer", import_module("torch.optim.adam"), "_multi_tensor_adam"),
        ("ema", bench.train.weight_average, "_average_one"),
        ("grad_norm", bench.train.step, "read_grad_norm"),
    ],
)
def test_planted_slowdown_is_found_in_its_own_factor(
    cause: str, owner: Any, name: str, plant: Plant, results: Path
) -> None:
    plant(owner, name)
    found = decomposed(results, [cause], ema_decay=0.9)
    assert {*logarithms(found)} == {cause, PADDING, TEXT_TOWER, HEAD}
    require_found_in(cause, found)
    assert found.waiting is None


def test_slow_loader_is_found_in_waiting_for_data(plant: Any, results: Path, tmp_path: Path) -> None:
    """The captions' padding and the text tower change in steps that all wait, and get nothing of it."""
    plant(SampleLoader, "_load", lambda loader, _: loader.experiment.method == "clip")
    data = str(write_shards(tmp_path / "shards"))
    found = decomposed(results, [], data=data, caption_lengths="pack", workers=0)
    assert {*logarithms(found)} == {PADDING, TEXT_TOWER, HEAD, WAITING}
    require_found_in(WAITING, found)
    assert found.waiting is not None
    assert found.waiting.saved_seconds == pytest.approx(PLANTED_SECONDS / 4, rel=0.01)


def test_loader_that_is_as_slow_for_both_hides_the_other_causes_in_the_whole_alone(
    plant: Any, results: Path, tmp_path: Path
) -> None:
    """As much as the parts give, waiting takes back."""
    plant(SampleLoader, "_load")
    found = decomposed(results, [], data=str(write_shards(tmp_path / "shards")), caption_lengths="pack", workers=0)
    of_causes = logarithms(found)
    waiting = of_causes.pop(WAITING)
    assert found.whole.step is not None
    assert found.whole.step.value == pytest.approx(1, abs=1e-6)
    assert waiting == pytest.approx(-sum(of_causes.values()), abs=1e-6)
    assert all(0 < abs(log) < LARGEST_OF_OTHERS for log in of_causes.values())


def test_labels_made_by_the_loader_keep_their_own_factor(plant: Any, results: Path, tmp_path: Path) -> None:
    """The ladder leads to a CatLIP with slow labels, whose steps wait, and then to one without."""
    plant(SampleLoader, "_load", lambda loader, _: loader.experiment.targets.label_format == "dense")
    data = str(write_shards(tmp_path / "shards"))
    of_causes = logarithms(decomposed(results, ["dense_labels"], data=data, caption_lengths="pack", workers=0))
    gained, lost = (of_causes.pop(cause) for cause in ("dense_labels", WAITING))
    assert gained > 2 * LARGEST_OF_OTHERS
    assert -lost == pytest.approx(gained, abs=LARGEST_OF_OTHERS)
    assert all(abs(log) < LARGEST_OF_OTHERS for log in of_causes.values())
