"""docs/results/performance.md has the counted FLOPs of open_clip's step over ours."""

from pathlib import Path

import pytest
import torch

from bench.environment.circumstances import CHECKOUT
from bench.experiment.config import change
from bench.experiment.experiments import get_experiment
from bench.features.reference.experiments import REFERENCE_SETTINGS
from bench.features.reference.tables import STEPS_COMPARED
from bench.measure.costs import count_mean_step_flops
from bench.train.build import open_batch_stream
from tests.released_flops import forward_flops_as_released

PAGE = " ".join(
    (CHECKOUT / "docs" / "results" / "performance.md").read_text(encoding="utf-8").split()
)


@pytest.mark.exhaustive
def test_page_has_the_flops_of_open_clips_forward_over_ours(results: Path) -> None:
    predicted = []
    of_padding = []
    for scale in ("vit-b32", "vit-b16"):
        experiment = change(
            get_experiment(f"clip-{scale}"), **REFERENCE_SETTINGS, text_padding="length_groups"
        )
        stream = open_batch_stream(experiment, torch.device("cpu"), results)
        captions = [stream.target(step) for step in range(STEPS_COMPARED)]
        ours = count_mean_step_flops(experiment, captions)
        forward = (ours.image_forward + ours.text_forward) / experiment.training.batch_size
        predicted.append(forward_flops_as_released(experiment) / forward)
        padded = change(experiment, text_padding="max_length")
        stream = open_batch_stream(padded, torch.device("cpu"), results)
        of_padding.append(count_mean_step_flops(padded, [stream.target(0)]).step / ours.step)
    assert f"| FLOP-predicted, our step | {predicted[0]:.2f} | {predicted[1]:.2f} |" in PAGE
    assert f"the padding alone makes {of_padding[0]:.2f} and {of_padding[1]:.2f}" in PAGE
