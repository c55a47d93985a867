"""Which sizes there are, which one a step draws, and how many images are seen until then."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data.image_sizes import make_batch_shape_schedule
from bench.experiment.settings import renamed_with_settings
from tests.small import small

laws = settings(derandomize=True, deadline=None, database=None, max_examples=60)

CHANGES = st.fixed_dictionaries(
    {
        "random_image_sizes": st.sets(st.integers(16, 96), max_size=6).map(sorted).map(tuple),
        "batch_size": st.integers(1, 300),
        "seed": st.integers(0, 5),
        "images_seen": st.just(1000),
    }
)


@pytest.mark.parametrize(
    ("image_size", "batch", "batch_by_side"),
    [
        (224, 256, {160: 501, 192: 348, 224: 256, 256: 196, 288: 154, 320: 125}),
        (
            224,
            1024,
            {128: 3136, 144: 2477, 160: 2007, 176: 1658, 192: 1393, 208: 1187, 224: 1024}
            | {240: 892, 256: 784, 272: 694, 288: 619, 304: 555, 320: 501},
        ),
        (300, 1, {256: 1, 320: 1, 384: 1, 512: 1}),
        (48, 8, {64: 4}),
        (98, 283, {15: 12079, 23: 5137, 30: 3019, 38: 1882, 45: 1342, 98: 283}),
    ],
)
def test_batch_sizes_equal_the_released_sampler(
    image_size: int, batch: int, batch_by_side: dict[int, int]
) -> None:
    """Found by running apple/corenet's `image_batch_pairs` at 1aa3acd."""
    experiment = small("catlip", image_size=image_size, batch_size=batch, images_seen=10_000)
    for side, size in batch_by_side.items():
        assert experiment.device_batch_size_at(side) == size


@laws
@given(CHANGES, st.integers(0, 500))
def test_images_seen_before_a_step_sum_all_earlier_steps(
    changes: dict[str, Any], step: int
) -> None:
    experiment = small("catlip", **changes)
    sizes = make_batch_shape_schedule(experiment)
    assert sizes.images_per_device_before(step) == sum(
        sizes.shape_at(k).num_images for k in range(step)
    )


@laws
@given(CHANGES, st.integers(0, 5000))
def test_steps_for_images_are_the_nearest_whole_number(
    changes: dict[str, Any], images: int
) -> None:
    sizes = make_batch_shape_schedule(small("catlip", **changes))
    found = sizes.nearest_step_count(images)
    assert sizes.nearest_step_count(sizes.images_per_device_before(found)) == found
    apart = abs(sizes.images_per_device_before(found) - images)
    near = (max(0, found - 1), found + 1)
    assert apart <= min(abs(sizes.images_per_device_before(step) - images) for step in near)


@laws
@given(CHANGES, st.integers(0, 2000))
def test_each_image_size_is_drawn_once_per_cycle(changes: dict[str, Any], cycle: int) -> None:
    experiment = small("catlip", **changes)
    sides = experiment.image.all_image_sizes
    sizes = make_batch_shape_schedule(experiment)
    steps = range(cycle * len(sides), (cycle + 1) * len(sides))
    assert sorted(sizes.shape_at(step).side for step in steps) == list(sides)
    seen = sizes.images_per_device_before(steps.stop) - sizes.images_per_device_before(steps.start)
    assert seen == pytest.approx(len(sides) * experiment.mean_device_batch_size)


@laws
@given(CHANGES, st.integers(0, 3000))
def test_the_first_step_of_each_size_is_the_first_and_the_largest_comes_first(
    changes: dict[str, Any], start: int
) -> None:
    experiment = small("catlip", **changes)
    sizes = make_batch_shape_schedule(experiment)
    found = sizes.first_step_of_each_image_side(start)
    sides = [sizes.shape_at(step).side for step in found]
    assert sides == list(experiment.image.all_image_sizes)[::-1]
    for step, side in zip(found, sides, strict=True):
        assert step >= start
        assert side not in {sizes.shape_at(k).side for k in range(start, step)}


def test_other_batch_sizes_keep_whole_cycles_of_image_sizes() -> None:
    base = small("catlip", random_image_sizes=(32, 48, 64), untimed_steps=3, steps_per_window=6)
    for size in (2, 7, 16, 100, 5000):
        sized = renamed_with_settings(base, [f"batch_size={size}"])
        assert sized.timing.untimed_steps % 3 == sized.timing.steps_per_window % 3 == 0
