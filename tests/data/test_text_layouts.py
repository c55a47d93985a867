"""Packed captions have one shape in a run, whatever the batch, and fewer tokens than padded ones."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bench.data.caption_lengths import WEB
from bench.data.image_sizes import BatchShape, BatchShapeSchedule, make_batch_shape_schedule
from bench.data.order import SampleOrder
from bench.data.targets import CaptionTokens
from bench.data.text_layouts import pack_into_rows
from bench.experiment.auto_fields import resolve_text_padding
from bench.experiment.config import Experiment
from bench.experiment.experiments import EXPERIMENTS
from bench.experiment.fields import OWN_LENGTHS
from bench.interfaces.method import METHODS
from bench.measure.costs import (
    META,
    build_tower_and_model_on_meta,
    count_mean_step_flops,
    count_text_forward_flops,
)
from bench.train.build import open_batch_stream
from tests.small import small

CPU, CUDA, CONTEXT = torch.device("cpu"), torch.device("cuda"), 77
BATCHES = 200


def packed(**changes: object) -> Experiment:
    return small("clip", **{"context_length": CONTEXT, "text_padding": "packed_rows"} | changes)


@given(st.lists(st.integers(2, 40), min_size=1, max_size=60), st.integers(0, 40))
def test_packed_captions_do_not_overlap_and_lie_in_one_row(lengths: list[int], more: int) -> None:
    width = max(lengths) + more
    starts, rows = pack_into_rows(lengths, width)
    places = [
        place
        for start, length in zip(starts, lengths, strict=True)
        for place in range(start, start + length)
    ]
    assert len({*places}) == len(places) == sum(lengths)
    assert all(
        start // width == (start + length - 1) // width
        for start, length in zip(starts, lengths, strict=True)
    )
    assert {place // width for place in places} == {*range(rows)}
    assert sum(lengths) <= rows * width


@pytest.mark.parametrize(("lengths", "batch_size"), [(OWN_LENGTHS, 1024), (WEB, 128)])
def test_all_batches_of_all_ranks_fit_into_the_reserved_rows(
    lengths: str, batch_size: int, results: Path
) -> None:
    experiment = packed(
        pack_caption_lengths=lengths, batch_size=batch_size, images_seen=BATCHES * batch_size
    )
    tokens = open_batch_stream(experiment, CPU, results).targets
    (reserved,) = tokens.reserved_rows.values()
    for ranks in (1, 8):
        for rank in range(ranks):
            sizes = make_batch_shape_schedule(experiment)
            order = SampleOrder(experiment.seed, len(tokens.lengths), sizes, rank, ranks)
            for k in range(-(-BATCHES // ranks)):
                assert (
                    pack_into_rows(tokens.lengths[order.batch_rows(k)].tolist(), CONTEXT).num_rows
                    <= reserved
                )


def test_batch_that_needs_more_rows_than_are_reserved_gets_them() -> None:
    tokens = CaptionTokens.from_ids_without_start_and_end(
        [[1] * 60] * 3 + [[2]] * 997, 3, 4, CONTEXT, "packed_rows"
    )
    reserved = tokens.packed_rows_to_reserve(BatchShapeSchedule((BatchShape(48, 4),)))
    batch = CaptionTokens(
        **{field: getattr(tokens, field) for field in tokens.__slots__}
        | {"reserved_rows": reserved}
    )
    assert reserved == {4: 1}
    assert batch.select(torch.arange(4)).groups[0].shape == (3, CONTEXT)
    assert batch.select(torch.arange(3, 7)).groups[0].shape == (1, CONTEXT)


def test_flops_of_packed_batches_are_those_of_their_rows(results: Path) -> None:
    experiment = packed(pack_caption_lengths=WEB)
    stream = open_batch_stream(experiment, CPU, results)
    batches = [stream.target(k) for k in range(3)]
    _, model = build_tower_and_model_on_meta(experiment)
    assert count_mean_step_flops(experiment, batches).text_forward == count_text_forward_flops(
        METHODS[experiment.method], model, batches[0].to(META)
    )


def test_captions_are_packed_by_default_where_the_step_is_compiled() -> None:
    experiment = EXPERIMENTS["clip-vit-b16"]
    assert resolve_text_padding(experiment.text, experiment.runtime, CPU) == "length_groups"
    assert resolve_text_padding(experiment.text, experiment.runtime, CUDA) == "packed_rows"
    tiny = EXPERIMENTS["clip-tiny"]
    for device in (CPU, CUDA):
        assert resolve_text_padding(tiny.text, tiny.runtime, device) == "length_groups"
