"""The share of CLIP's text tower at the tiny scale is not that at ViT-B/16, and docs/methods.md has both."""

from pathlib import Path

import pytest
import torch

from bench.config import Experiment, change
from bench.data.targets import Target
from bench.environment.circumstances import CHECKOUT
from bench.experiments import get_experiment
from bench.measure.costs import count_costs, count_flops
from bench.train.build import load_data

BATCHES = 32
PAGE = (CHECKOUT / "docs" / "methods.md").read_text(encoding="utf-8")


def test_page_has_the_share_of_captions_padded_to_the_context() -> None:
    clip = get_experiment("clip-vit-b16")
    assert f"| {clip.text.context_length} | {100 * count_costs(clip).text_share:.1f} % |" in PAGE


@pytest.mark.parametrize(
    ("scale", "text_padding"), [("tiny", "bucketed"), ("vit-b16", "packed"), ("vit-b16", "bucketed")]
)
def test_page_has_the_share_of_the_computed_tokens(scale: str, text_padding: str, results: Path) -> None:
    clip, catlip = (get_experiment(f"{method}-{scale}") for method in ("clip", "catlip"))
    clip = change(clip, text_padding=text_padding)

    def targets(one: Experiment, batches: int) -> list[Target]:
        stream = load_data(one, torch.device("cpu"), results)
        return [stream.target(step) for step in range(batches)]

    captions = targets(clip, BATCHES)
    found, classified = count_flops(clip, captions), count_flops(catlip, targets(catlip, 1))
    tokens = sum(target.captions.tokens_per_caption for target in captions) / BATCHES
    share = found.text_forward / (found.text_forward + found.image_forward)
    assert f"| {tokens:.3g} | {100 * share:.1f} % | {found.step / classified.step:.2f} |" in PAGE
