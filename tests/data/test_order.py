"""Batches are consecutive places in an endless row of shuffled epochs, whatever their sizes, also across ranks."""

import tracemalloc
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from bench.data.image_sizes import BatchShape, BatchShapeSchedule, make_batch_shape_schedule
from bench.data.order import SampleOrder, permute, rows_of_shuffled_epochs
from tests.small import small

laws = settings(derandomize=True, deadline=None, database=None, max_examples=60)
SIZES = st.sets(st.integers(16, 96), max_size=5).map(sorted).map(tuple)
LARGE = 10**9


@laws
@given(st.integers(1, 3000), st.integers(0, 2**63 - 1))
def test_permutation_is_a_bijection_for_every_number_of_samples(count: int, key: int) -> None:
    places = permute(np.arange(count, dtype=np.uint64), count, key)
    assert sorted(places.tolist()) == [*range(count)]


@pytest.mark.parametrize("count", [3, 8, 11_979, LARGE])
def test_first_sample_is_uniform_over_keys(count: int) -> None:
    first = [int(permute(np.zeros(1, np.uint64), count, key)[0]) for key in range(3000)]
    bins = min(count, 12)
    observed = Counter(place * bins // count for place in first)
    sizes = (
        Counter(place * bins // count for place in range(count))
        if count < LARGE
        else dict.fromkeys(range(bins), 1)
    )
    expected = [3000 * sizes[place] / sum(sizes.values()) for place in range(bins)]
    assert chisquare([observed[place] for place in range(bins)], expected).pvalue > 0.001


def test_neighbours_and_epochs_are_not_correlated() -> None:
    epochs = [
        rows_of_shuffled_epochs(0, LARGE, start=epoch * LARGE, size=5000).double()
        for epoch in (0, 1)
    ]
    pairs = [
        (epochs[0], epochs[1]),
        (epochs[0][1:], epochs[0][:-1]),
        (epochs[0], torch.arange(5000).double()),
    ]
    for first, second in pairs:
        assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1]) < 0.06


def test_batches_of_a_billion_samples_take_little_memory() -> None:
    sizes = BatchShapeSchedule((BatchShape(64, 256),))
    order = SampleOrder(0, LARGE, sizes, rank=3, world_size=8)
    order.batch_rows(0)
    tracemalloc.start()
    rows = [order.batch_rows(k) for k in range(0, 10**6, 100_000)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20
    assert all(batch.min() >= 0 and batch.max() < LARGE for batch in rows)


@laws
@given(SIZES, st.integers(1, 40), st.integers(1, 50), st.integers(1, 4), st.integers(1, 30))
def test_ranks_partition_the_sample_order(
    sizes: tuple[int, ...], batch: int, count: int, ranks: int, steps: int
) -> None:
    experiment = small("catlip", random_image_sizes=sizes, batch_size=batch, images_seen=1000)
    batch_shapes = make_batch_shape_schedule(experiment)
    orders = [SampleOrder(0, count, batch_shapes, rank, ranks) for rank in range(ranks)]
    read = torch.cat([order.batch_rows(k) for k in range(steps) for order in orders])
    for epoch in torch.split(read, count)[: len(read) // count]:
        assert torch.equal(epoch.sort().values, torch.arange(count))
    separate = SampleOrder(0, count, batch_shapes)
    # The same row, cut otherwise.
    row = torch.cat([separate.batch_rows(k) for k in range(steps * ranks)])
    common = min(len(row), len(read))
    assert torch.equal(row[:common], read[:common])


@laws
@given(
    st.lists(
        st.builds(BatchShape, st.integers(16, 96), st.integers(1, 40)), min_size=1, max_size=5
    ),
    st.integers(1, 4),
)
def test_given_sizes_repeat_and_partition_the_sample_order(
    sizes: list[BatchShape], ranks: int
) -> None:
    count, steps = 50, 2 * len(sizes) + 1
    batch_shapes = BatchShapeSchedule(tuple(sizes))
    orders = [SampleOrder(0, count, batch_shapes, rank, ranks) for rank in range(ranks)]
    for k in range(steps):
        assert {(order.image_side(k), len(order.batch_rows(k))) for order in orders} == {
            sizes[k % len(sizes)]
        }
    read = torch.cat([order.batch_rows(k) for k in range(steps) for order in orders])
    for epoch in torch.split(read, count)[: len(read) // count]:
        assert torch.equal(epoch.sort().values, torch.arange(count))
