"""docs/results/performance.md has the counted tokens and FLOPs of open_clip's step and of ours."""

from pathlib import Path
from statistics import fmean

import torch

from bench.environment.circumstances import CHECKOUT
from bench.experiment.config import change
from bench.experiment.experiments import get_experiment
from bench.features.reference.experiments import PLAIN
from bench.features.reference.tables import STEPS_COMPARED
from bench.measure.costs import count_step_flops
from bench.train.build import open_batch_stream
from tests.released_flops import forward_flops_as_released

PAGE = " ".join(
    (CHECKOUT / "docs" / "results" / "performance.md").read_text(encoding="utf-8").split()
)


def test_page_has_the_flops_of_open_clips_forward_over_ours(results: Path) -> None:
    of_padding = []
    for scale, rounds in (
        ("vit-b32", "ViT-B/32, ten rounds"),
        ("vit-b16", "ViT-B/16, five rounds"),
    ):
        experiment = change(get_experiment(f"clip-{scale}"), **PLAIN, text_padding="bucketed")
        stream = open_batch_stream(experiment, torch.device("cpu"), results)
        captions = [stream.target(step) for step in range(STEPS_COMPARED)]
        assert (
            f"computes {fmean(one.captions.tokens_per_caption for one in captions):.1f} tokens"
            in PAGE
        )
        ours = count_step_flops(experiment, captions)
        forward = (ours.image_forward + ours.text_forward) / experiment.training.batch_size
        assert (
            f" | {forward_flops_as_released(experiment) / forward:.2f} |"
            in PAGE.partition(rounds)[2][:80]
        )
        padded = change(experiment, text_padding="max_length")
        stream = open_batch_stream(padded, torch.device("cpu"), results)
        of_padding.append(count_step_flops(padded, [stream.target(0)]).step / ours.step)
    assert f"the padding alone makes {of_padding[0]:.2f} and {of_padding[1]:.2f}" in PAGE
