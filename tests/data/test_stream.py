"""Batch k is a pure function of the experiment, the rank and k."""

from collections.abc import Sequence
from itertools import combinations, pairwise
from types import SimpleNamespace
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data.pack import PackImages
from bench.data.stream import PackStream, augment_pack_images, composite_and_normalise
from bench.data.targets import CaptionTokens, LabelPairs
from bench.data.text_layouts import choose_caption_counts_by_bucket_width, list_padding_widths
from bench.experiment.fields import TextPadding
from bench.interfaces.method import METHODS
from tests.scoring_images import eval_transform
from tests.small import small

CPU = torch.device("cpu")


def stream(
    pack_images: PackImages,
    method: str = "catlip",
    *,
    rank: int = 0,
    ranks: int = 1,
    **changes: object,
) -> PackStream:
    experiment = small(method, **changes)
    return PackStream(
        experiment,
        pack_images,
        METHODS[method].make_target_function(experiment),
        CPU,
        rank=rank,
        ranks=ranks,
    )


def test_all_methods_see_bit_equal_images(images: PackImages) -> None:
    streams = [stream(images, method) for method in [*METHODS]]
    for k in (0, 5, 900):
        first, *others = [each.batch(k).images for each in streams]
        assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize(("kind", "seconds"), [("cpu", 5.0), ("cuda", 2.5)])
def test_on_a_gpu_only_loading_and_pinning_of_a_batch_is_waiting(
    kind: str, seconds: float, images: PackImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its kernels and copies may stand in a queue behind the steps before them."""
    now, batches = [0.0], stream(images)
    made, batches.wait_seconds = batches.batch(0), 0.0
    batches.device = torch.device(kind)

    def take(duration: float, result: object) -> object:
        now[0] += duration
        return result

    monkeypatch.setattr("bench.data.stream.time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(batches, "load_batch_parts", lambda k: take(2.0, k))
    monkeypatch.setattr("bench.data.stream.pin_tensors", lambda loaded: take(0.5, loaded))
    monkeypatch.setattr(batches, "make_batch", lambda _: take(3.0, made))
    batches.batch(0)
    assert batches.wait_seconds == seconds


def test_seeds_ranks_and_steps_draw_independently(images: PackImages) -> None:
    base = stream(images).batch(0).images
    assert not torch.equal(base, stream(images, seed=1).batch(0).images)
    assert not torch.equal(base, stream(images, rank=1, ranks=2).batch(0).images)
    assert not torch.equal(base, stream(images).batch(1).images)


@settings(max_examples=20, derandomize=True, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.1, 1.0))
def test_crops_stay_inside_the_image(seed: int, low: float) -> None:
    """An image of one opaque colour stays that colour wherever it is cropped: nothing from outside is mixed in."""
    pixels = torch.full((8, 4, 64, 64), 255, dtype=torch.uint8)
    images = augment_pack_images(
        pixels, small("clip", crop_scale=(low, 1.0)).input, 48, torch.Generator().manual_seed(seed)
    )
    inner = images[:, :, 1:-1, 1:-1]
    torch.testing.assert_close(inner, inner[:1, :, :1, :1].expand_as(inner), atol=1e-4, rtol=0)


def test_only_transparent_pixels_take_the_background() -> None:
    pixels = torch.zeros(1, 4, 64, 64, dtype=torch.uint8)
    pixels[:, :, :32] = 255
    white = eval_transform(pixels, 48)
    torch.testing.assert_close(white[:, :, 0], white[:, :, -1], atol=1e-5, rtol=0)
    colour = composite_and_normalise(pixels.float(), torch.tensor([0.2, 0.4, 0.6]).view(1, 3, 1, 1))
    assert not torch.allclose(colour[:, :, 0], colour[:, :, -1])


LISTS = st.lists(st.lists(st.integers(0, 20), max_size=6), min_size=1, max_size=8)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(LISTS, st.data())
def test_labels_of_a_batch_are_those_of_its_captions(
    lists: list[list[int]], data: st.DataObject
) -> None:
    rows = data.draw(st.lists(st.integers(0, len(lists) - 1), min_size=1, max_size=10))
    batch = LabelPairs.from_label_lists(lists).select(torch.tensor(rows))
    pairs = list(zip(batch.rows.tolist(), batch.columns.tolist(), strict=True))
    assert pairs == [
        (place, label) for place, row in enumerate(rows) for label in dict.fromkeys(lists[row])
    ]


@settings(max_examples=60, derandomize=True, deadline=None)
@given(LISTS, st.integers(3, 30), st.sampled_from(get_args(TextPadding)), st.data())
def test_batch_tokens_keep_every_caption_and_its_end_token(
    lists: list[list[int]], context: int, padding: TextPadding, data: st.DataObject
) -> None:
    whole = CaptionTokens.from_ids_without_start_and_end(
        lists, start=30, end=31, context_length=context, padding=padding
    )
    rows = torch.tensor(
        data.draw(st.lists(st.integers(0, len(lists) - 1), min_size=1, max_size=10))
    )
    batch = whole.select(rows)
    flat = torch.cat([ids.flatten() for ids in batch.groups]).tolist()
    widths = {ids.shape[1] for ids in batch.groups}
    assert (
        widths == {context}
        if padding == "packed_rows"
        else widths <= {*list_padding_widths(context)}
    )
    assert len(batch.groups) <= (4 if padding == "length_groups" else 1)
    assert batch.tokens_per_caption == len(flat) / len(rows)
    for place, row in zip(batch.inverse_permutation.tolist(), rows.tolist(), strict=True):
        expected, after = [30, *lists[row][: context - 2], 31], int(batch.ends[place]) + 1
        assert batch.lengths[place] == len(expected)
        assert flat[after - len(expected) : after] == expected
        flat[after - len(expected) : after] = [0] * len(expected)
    assert not any(flat)
    if padding == "max_length":
        assert batch.tokens_per_caption == context
    if padding == "longest":
        assert batch.tokens_per_caption == min(
            w for w in list_padding_widths(context) if w >= batch.lengths.max()
        )


def by_trying_all(widths: Sequence[int], counts: Sequence[int], most: int) -> int:
    """The fewest tokens of all ways to cut the row of lengths into groups."""
    tokens = []
    for cuts in (cuts for k in range(most) for cuts in combinations(range(1, len(widths)), k)):
        parts = list(pairwise((0, *cuts, len(widths))))
        needed = [max((widths[k] for k in range(*part) if counts[k]), default=0) for part in parts]
        tokens.append(
            sum(
                width * sum(counts[slice(*part)]) for width, part in zip(needed, parts, strict=True)
            )
        )
    return min(tokens)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=8).filter(any), st.integers(1, 5), st.data()
)
def test_length_buckets_minimise_computed_tokens(
    counts: list[int], most: int, data: st.DataObject
) -> None:
    size = st.lists(st.integers(1, 80), min_size=len(counts), max_size=len(counts), unique=True)
    widths = sorted(data.draw(size))
    groups = choose_caption_counts_by_bucket_width(widths, counts, most)
    assert sum(width * count for width, count in groups.items()) == by_trying_all(
        widths, counts, most
    )
    assert sum(groups.values()) == sum(counts)
    assert len(groups) <= most
    assert list(groups) == sorted(groups)
