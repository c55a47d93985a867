"""Batch k is a pure function of the experiment, the rank and k."""

from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.config import METHOD_NAMES, TextPadding
from bench.data.pack import Pictures
from bench.data.pack_stream import PackStream, augment, for_scoring, on_background
from bench.data.targets import Labels, Tokens, fixed_lengths, group_sizes
from bench.methods import METHODS
from tests.small import small

CPU = torch.device("cpu")


def stream(
    pictures: Pictures, method: str = "catlip", *, rank: int = 0, ranks: int = 1, **changes: object
) -> PackStream:
    experiment = small(method, **changes)
    return PackStream(experiment, pictures, METHODS[method].targets(experiment), CPU, rank=rank, ranks=ranks)


def test_all_methods_see_equal_images_to_the_last_bit(pictures: Pictures) -> None:
    streams = [stream(pictures, method) for method in METHOD_NAMES]
    for k in (0, 5, 900):
        first, *others = [each.batch(k).images for each in streams]
        assert all(torch.equal(first, other) for other in others)


def test_a_batch_does_not_depend_on_those_taken_before(pictures: Pictures) -> None:
    one, other = stream(pictures), stream(pictures)
    for k in range(3):
        one.batch(k)
    assert torch.equal(one.batch(7).images, other.batch(7).images)
    assert torch.equal(one.batch(7).target.columns, other.batch(7).target.columns)


def test_an_epoch_shows_every_picture_once_also_across_batches_and_ranks(pictures: Pictures) -> None:
    count = len(pictures)
    ranks = [stream(pictures, rank=rank, ranks=2, batch_size=1000, images=4000) for rank in (0, 1)]
    rows = torch.cat([each.order.rows(k) for k in range(12) for each in ranks])
    first, second = rows[:count], rows[count : 2 * count]
    assert torch.equal(first.sort().values, torch.arange(count))
    assert torch.equal(second.sort().values, torch.arange(count))
    assert not torch.equal(first, second)


def test_a_batch_larger_than_the_data_goes_round(pictures: Pictures) -> None:
    few = Pictures(pictures.pixels[:5], pictures.captions[:5], pictures.classes[:5], pictures.keys[:5])
    rows = torch.cat([stream(few, batch_size=16).order.rows(k) for k in range(5)])
    assert torch.bincount(rows, minlength=5).tolist() == [16] * 5


def test_seeds_and_ranks_and_steps_draw_apart(pictures: Pictures) -> None:
    base = stream(pictures).batch(0).images
    assert not torch.equal(base, stream(pictures, seed=1).batch(0).images)
    assert not torch.equal(base, stream(pictures, rank=1, ranks=2).batch(0).images)
    assert not torch.equal(base, stream(pictures).batch(1).images)


def test_a_whole_picture_unflipped_is_the_picture_resized() -> None:
    pixels = torch.randint(0, 256, (3, 4, 64, 64), dtype=torch.uint8)
    pixels[:, 3] = 255
    experiment = small("clip", crop_scale=(1.0, 1.0), flip=False, image_size=64)
    draw = torch.Generator().manual_seed(0)
    images = augment(pixels, experiment, 64, draw)
    # The aspect ratio is drawn too, so a box of the whole area is cut to the picture where it is too wide.
    assert images.shape == (3, 3, 64, 64)
    opaque = on_background(pixels.float(), torch.zeros(1, 3, 1, 1))
    assert images.min() >= opaque.min() - 1e-4
    assert images.max() <= opaque.max() + 1e-4


@settings(max_examples=20, derandomize=True, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.1, 1.0))
def test_crops_stay_inside_the_picture(seed: int, low: float) -> None:
    """A picture of one opaque colour stays that colour wherever it is cropped: nothing from outside is mixed in."""
    pixels = torch.full((8, 4, 64, 64), 255, dtype=torch.uint8)
    images = augment(pixels, small("clip", crop_scale=(low, 1.0)), 48, torch.Generator().manual_seed(seed))
    inner = images[:, :, 1:-1, 1:-1]
    torch.testing.assert_close(inner, inner[:1, :, :1, :1].expand_as(inner), atol=1e-4, rtol=0)


def test_transparent_pixels_take_the_background_and_opaque_ones_do_not() -> None:
    pixels = torch.zeros(1, 4, 64, 64, dtype=torch.uint8)
    pixels[:, :, :32] = 255
    white = for_scoring(pixels, 48)
    torch.testing.assert_close(white[:, :, 0], white[:, :, -1], atol=1e-5, rtol=0)
    colour = on_background(pixels.float(), torch.tensor([0.2, 0.4, 0.6]).view(1, 3, 1, 1))
    assert not torch.allclose(colour[:, :, 0], colour[:, :, -1])


LISTS = st.lists(st.lists(st.integers(0, 20), max_size=6), min_size=1, max_size=8)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(LISTS, st.data())
def test_labels_of_a_batch_are_those_of_its_captions(lists: list[list[int]], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(lists) - 1), min_size=1, max_size=10))
    batch = Labels.of(lists).take(torch.tensor(rows))
    pairs = list(zip(batch.rows.tolist(), batch.columns.tolist(), strict=True))
    assert pairs == [(place, label) for place, row in enumerate(rows) for label in dict.fromkeys(lists[row])]


@settings(max_examples=60, derandomize=True, deadline=None)
@given(LISTS, st.integers(3, 30), st.sampled_from(get_args(TextPadding)), st.data())
def test_tokens_of_a_batch_keep_every_caption_and_its_end(
    lists: list[list[int]], context: int, padding: TextPadding, data: st.DataObject
) -> None:
    whole = Tokens.of(lists, start=30, end=31, context_length=context, padding=padding)
    rows = torch.tensor(data.draw(st.lists(st.integers(0, len(lists) - 1), min_size=1, max_size=10)))
    batch = whole.take(rows)
    captions = [caption for ids in batch.groups for caption in ids.tolist()]
    assert {ids.shape[1] for ids in batch.groups} <= {*fixed_lengths(context)}
    assert len(batch.groups) <= (4 if padding == "none" else 1)
    assert batch.tokens_per_caption == sum(map(len, captions)) / len(rows)
    for place, row in zip(batch.places.tolist(), rows.tolist(), strict=True):
        expected = [30, *lists[row][: context - 2], 31]
        assert captions[place][: len(expected)] == expected
        assert batch.lengths[place] == len(expected)
        assert not any(captions[place][len(expected) :])
    if padding == "full":
        assert batch.tokens_per_caption == context
    if padding == "batch":
        assert batch.tokens_per_caption == min(w for w in fixed_lengths(context) if w >= batch.lengths.max())


@pytest.mark.parametrize("context", [3, 7, 24, 32, 64, 77, 256])
def test_there_are_at_most_eight_lengths_and_the_context_is_one(context: int) -> None:
    lengths = fixed_lengths(context)
    assert len(lengths) <= 8
    assert lengths[-1] == context
    assert lengths == sorted({*lengths})
    assert lengths[0] <= 8


def by_trying_all(widths: Sequence[int], counts: Sequence[int], most: int) -> int:
    """The fewest tokens of all ways to cut the row of lengths into groups."""
    tokens = []
    for cuts in (cuts for k in range(most) for cuts in combinations(range(1, len(widths)), k)):
        parts = list(pairwise((0, *cuts, len(widths))))
        needed = [max((widths[k] for k in range(*part) if counts[k]), default=0) for part in parts]
        tokens.append(sum(width * sum(counts[slice(*part)]) for width, part in zip(needed, parts, strict=True)))
    return min(tokens)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(any), st.integers(1, 5), st.data())
def test_groups_compute_the_fewest_tokens_possible(counts: list[int], most: int, data: st.DataObject) -> None:
    size = st.lists(st.integers(1, 80), min_size=len(counts), max_size=len(counts), unique=True)
    widths = sorted(data.draw(size))
    groups = group_sizes(widths, counts, most)
    assert sum(width * count for width, count in groups.items()) == by_trying_all(widths, counts, most)
    assert sum(groups.values()) == sum(counts)
    assert len(groups) <= most
    assert list(groups) == sorted(groups)
