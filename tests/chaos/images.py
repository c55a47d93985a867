"""Broken and randomly corrupted images: each decodes or has a known error class, in little memory."""

from pathlib import Path

import torch

from bench.config import Experiment
from bench.data.decoding import ERROR_CLASSES, UnusableImageError, decode_image
from bench.data.transforms import crop_and_resize, draw_crop_params
from bench.experiments import EXPERIMENTS
from bench.profilers.memory import PeakMemory
from tests.chaos.bound import Check, check_at_most, check_none, num_tries
from tests.chaos.broken_images import SIGNATURE, broken_images
from tests.chaos.made import encode_image, make_image

FULL_CORRUPTED = 1000
MIB = 2**20
MOST_MIB = 450.0
# Torchvision's own decoder makes 400 MB, 381 MiB, of such a PNG. Here it is 286 MiB: 25 megapixels of grey with alpha.
MOST_OF_A_BOMB_MIB, BOMB_BYTES = 357.0, 49_152


def run(fraction: float, seed: int, folder: Path) -> list[Check]:  # noqa: ARG001 - a part's arguments
    """Decode and crop."""
    experiment, crashes = EXPERIMENTS["catlip-tiny"], list[str]()
    kinds, peaks = broken_images(), dict[str, float]()
    for name, image in kinds.items():
        peaks[name] = _memory_of(image, name, experiment, crashes)
    small = [name for name, image in kinds.items() if image.startswith(SIGNATURE) and len(image) <= BOMB_BYTES]
    largest, largest_bomb = max(kinds, key=peaks.__getitem__), max(small, key=peaks.__getitem__)
    count = num_tries(FULL_CORRUPTED, fraction)
    corrupted = _fuzz_images(count, seed, experiment)
    return [
        check_none("kinds of broken images: crashes without a named cause", len(kinds), crashes),
        check_none("images corrupted by hypothesis: crashes without a named cause", count, corrupted),
        check_at_most("the most memory that an image took", MOST_MIB, peaks[largest], "MiB", largest),
        check_at_most(
            "the most that a PNG of 48 kB took", MOST_OF_A_BOMB_MIB, peaks[largest_bomb], "MiB", largest_bomb
        ),
    ]


def _memory_of(image: bytes, name: str, experiment: Experiment, crashes: list[str]) -> float:
    """Return the MiB that it takes to use an image; note what is neither an image nor of a class."""
    peak = PeakMemory(torch.device("cpu"))
    if text := _use_image(image, experiment):
        crashes.append(f"{name}: {text}")
    return (peak.read().rss or 0) / MIB


def _use_image(image: bytes, experiment: Experiment) -> str:
    """Return what is wrong with how an image ends; nothing where it is an image, or of a class."""
    try:
        draws, scale = draw_crop_params(1, torch.Generator())[0], experiment.input.crop_scale
        found = crop_and_resize(
            decode_image(image), draws, scale, experiment.image.image_size, flip=experiment.input.flip
        )
    except UnusableImageError as error:
        return "" if str(error) in ERROR_CLASSES else f"of no known class: {error}"
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        return f"{type(error).__name__}: {error}"
    right = found.dtype == torch.uint8 and found.shape == (3, experiment.image.image_size, experiment.image.image_size)
    return "" if right else f"became {found.dtype} of {tuple(found.shape)}"


def _fuzz_images(count: int, seed: int, experiment: Experiment) -> list[str]:
    """Let hypothesis replace, leave out, add and cut bytes of images of three kinds; return what goes wrong."""
    import hypothesis
    from hypothesis import strategies as st

    whole = [encode_image(make_image(number), kind) for number, kind in enumerate(("JPEG", "PNG", "WEBP"))]
    edits = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 4), st.binary(max_size=8)), max_size=5)

    @hypothesis.seed(seed)
    @hypothesis.settings(max_examples=count, deadline=None, database=None, print_blob=False)
    @hypothesis.given(st.sampled_from(whole), edits, st.floats(0, 1))
    def law(image: bytes, edits: list[tuple[float, int, bytes]], kept: float) -> None:
        corrupted = bytearray(image)
        for place, gone, put in edits:
            at = int(place * len(corrupted))
            corrupted[at : at + gone] = put
        text = _use_image(bytes(corrupted[: int(kept * len(corrupted))]), experiment)
        assert not text, text

    try:
        law()
    except AssertionError as error:
        return [f"seed {seed}: {error}"]
    return []
