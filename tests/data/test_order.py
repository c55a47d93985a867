"""Batches are consecutive places in an endless row of shuffled epochs, whatever their sizes, also across ranks."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data.order import SampleOrder
from tests.small import small

laws = settings(derandomize=True, deadline=None, database=None, max_examples=60)
SIZES = st.sets(st.integers(16, 96), max_size=5).map(sorted).map(tuple)


@laws
@given(SIZES, st.integers(1, 40), st.integers(1, 50), st.integers(1, 4), st.integers(1, 30))
def test_ranks_partition_the_sample_order(
    sizes: tuple[int, ...], batch: int, count: int, ranks: int, steps: int
) -> None:
    experiment = small("catlip", image_sizes=sizes, batch_size=batch, images=1000)
    orders = [SampleOrder(experiment, count, rank, ranks) for rank in range(ranks)]
    read = torch.cat([order.batch_rows(k) for k in range(steps) for order in orders])
    for epoch in torch.split(read, count)[: len(read) // count]:
        assert torch.equal(epoch.sort().values, torch.arange(count))
    separate = SampleOrder(experiment, count)
    row = torch.cat([separate.batch_rows(k) for k in range(steps * ranks)])  # the same row, cut otherwise
    common = min(len(row), len(read))
    assert torch.equal(row[:common], read[:common])


@laws
@given(st.lists(st.tuples(st.integers(16, 96), st.integers(1, 40)), min_size=1, max_size=5), st.integers(1, 4))
def test_given_sizes_repeat_and_partition_the_sample_order(sizes: list[tuple[int, int]], ranks: int) -> None:
    count, steps = 50, 2 * len(sizes) + 1
    orders = [SampleOrder(small("catlip"), count, rank, ranks, tuple(sizes)) for rank in range(ranks)]
    for k in range(steps):
        assert {(order.image_size(k), len(order.batch_rows(k))) for order in orders} == {sizes[k % len(sizes)]}
    read = torch.cat([order.batch_rows(k) for k in range(steps) for order in orders])
    for epoch in torch.split(read, count)[: len(read) // count]:
        assert torch.equal(epoch.sort().values, torch.arange(count))


@laws
@given(SIZES, st.integers(1, 4), st.integers(0, 10**6))
def test_global_batch_has_one_image_size_and_random_access(sizes: tuple[int, ...], ranks: int, k: int) -> None:
    experiment = small("catlip", image_sizes=sizes)
    orders = [SampleOrder(experiment, 1000, rank, ranks) for rank in range(ranks)]
    (side,) = {order.image_size(k) for order in orders}
    assert side in experiment.image.all_image_sizes
    assert {len(order.batch_rows(k)) for order in orders} == {experiment.batch_size_for(side)}
    following = (orders[-1].batch_rows(k)[-1:], orders[0].batch_rows(k + 1)[:1])
    assert all(len(row) == 1 for row in following)
