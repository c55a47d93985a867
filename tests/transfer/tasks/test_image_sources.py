"""How images are shown to what is scored."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as F

from bench.data.transforms import MAX_ASPECT_RATIO
from bench.transfer.tasks.image_sources import ArrayImageSource, iterate_eval_batches


def images(height: int, width: int) -> ArrayImageSource:
    draw = torch.Generator().manual_seed(height * 1000 + width)
    return ArrayImageSource(
        torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8, generator=draw)
    )


@settings(max_examples=40, deadline=None)
@given(
    shorter=st.integers(1, 20),
    times=st.floats(1, MAX_ASPECT_RATIO),
    turned=st.booleans(),
    side=st.sampled_from((8, 16)),
)
def test_centre_crop_follows_scaling(shorter: int, times: float, turned: bool, side: int) -> None:
    sides = (int(shorter * times), shorter)
    of = images(*(sides if turned else sides[::-1]))
    expected = F.center_crop(F.resize(of.rgb(0), [side], antialias=True), [side, side])
    assert torch.equal(next(iterate_eval_batches(of, side))[0], expected)


@pytest.mark.parametrize("turned", [False, True])
def test_only_the_middle_of_a_very_long_image_is_scaled(
    turned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole it would take gigabytes at 224 px; what is shown of it is the same."""
    of, side, scaled = images(*((3000, 2) if turned else (2, 3000))), 16, list[int]()
    expected = F.center_crop(F.resize(of.rgb(0), [side], antialias=True), [side, side])
    resize = F.resize

    def noting(*arguments: object, **named: object) -> torch.Tensor:
        scaled.append(resize(*arguments, **named).numel())
        return resize(*arguments, **named)

    monkeypatch.setattr(F, "resize", noting)
    assert torch.equal(next(iterate_eval_batches(of, side))[0], expected)
    assert max(scaled) <= 3 * side * side * MAX_ASPECT_RATIO
