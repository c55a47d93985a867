"""open_clip's main branch beside ours: the same images in total, and equal losses where batches are equal.

The tests that run it are skipped where CATLIP_BENCH_OPEN_CLIP names no checkout.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from bench.data.stream import PackStream
from bench.experiment.config import Experiment
from bench.features.reference import (
    OPEN_CLIP,
    OPEN_CLIP_BUCKETED,
    OPEN_CLIP_CHECKOUT_SIDES,
    OURS,
    REFERENCE_REPOSITORIES,
    WARMUP_STEPS,
)
from bench.features.reference.open_clip import PACKAGES, POOL, choose_order_for_bucketing
from bench.features.reference.records import ReferenceRun
from bench.features.reference.runs import train_side
from bench.features.reference.tables import loss_comparison_table, reference_speed_table
from bench.records.record import Record
from bench.train.build import open_batch_stream
from tests.reports.conftest import HERE
from tests.small import small

CPU = torch.device("cpu")
VARIABLE = "CATLIP_BENCH_OPEN_CLIP"


@pytest.fixture
def checkout(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A checkout whose modules take the names of the installed release until the test ends."""
    path = os.environ.get(VARIABLE) or pytest.skip(
        f"{VARIABLE} names no checkout of {REFERENCE_REPOSITORIES['open-clip'].url}"
    )
    monkeypatch.setattr(sys, "path", [*sys.path])
    installed = open_clip_modules()
    yield path
    for name in open_clip_modules():
        del sys.modules[name]
    sys.modules.update(installed)


def open_clip_modules() -> dict[str, Any]:
    return {
        name: module for name, module in sys.modules.items() if name.partition(".")[0] in PACKAGES
    }


def twenty_steps() -> Experiment:
    return small(
        "clip",
        clip_norm=None,
        batch_size=4,
        timed_windows=6,
        steps_per_window=3,
        pack_caption_lengths="web",
    )


def recorded(run: ReferenceRun, experiment: Experiment) -> Record:
    return Record(comparison="x", experiment=experiment, circumstances=HERE, measured=run)


def test_checkout_has_equal_losses_for_equal_batches_and_its_bucketing_computes_fewer_tokens(
    checkout: str, results: Path
) -> None:
    experiment = twenty_steps()
    # The release is not imported after the checkout.
    sides = (OPEN_CLIP, OURS, OPEN_CLIP_BUCKETED)
    runs = {side: train_side(experiment, CPU, results, side, 0, checkout) for side in sides}
    rows = loss_comparison_table([recorded(run, experiment) for run in runs.values()]).rows
    assert {row["reference"]: (row["steps"], row["equal"]) for row in rows} == {
        OPEN_CLIP_BUCKETED: (WARMUP_STEPS, "yes"),
        OPEN_CLIP: (20, "yes"),
    }, rows
    bucketed, ours = (runs[side].losses[WARMUP_STEPS:] for side in (OPEN_CLIP_BUCKETED, OURS))
    assert bucketed != pytest.approx(ours, rel=1e-3)
    tokens = runs[OPEN_CLIP_BUCKETED].tokens_per_caption
    assert tokens is not None
    assert experiment.text.context_length > tokens > 3


def test_images_beside_a_checkout_have_the_lengths_of_the_whole_pool(results: Path) -> None:
    """So that few batches of similar length stand for those of a whole pool; each image is read once."""
    stream = open_batch_stream(twenty_steps(), CPU, results)
    assert isinstance(stream, PackStream)
    lengths, whole = stream.targets.lengths.float(), stream.order
    chosen = choose_order_for_bucketing(stream, 20)
    rows = torch.stack([chosen.batch_rows(k) for k in range(20)])
    assert rows.unique().numel() == rows.numel() == 20 * 4
    pool = torch.cat([whole.batch_rows(k) for k in range(POOL // 4)])
    timed = rows[WARMUP_STEPS:].flatten()
    assert timed.unique().numel() == len(timed)
    assert lengths[timed].mean().item() == pytest.approx(lengths[pool].mean().item(), rel=0.03)
    groups = lengths[timed].sort().values.view(-1, 4)
    assert (groups[:, -1] - groups[:, 0]).median() <= 1


def run(side: str, round_: int, windows: tuple[float, ...]) -> Record:
    measured = ReferenceRun(
        side=side,
        round=round_,
        window_seconds=windows,
        losses=(1.0, 2.0, 3.0 if side == OPEN_CLIP_BUCKETED else 4.0),
        tokens_per_caption=None,
    )
    return recorded(measured, twenty_steps())


def test_speed_of_a_run_is_that_of_all_its_windows() -> None:
    """They differ in work where captions are grouped by length."""
    records = [run(OPEN_CLIP, k, (2.0 + k / 100,) * 3) for k in range(5)]
    records += [run(OPEN_CLIP_BUCKETED, k, (1.0, 1.0, 1.0 + 3 * k / 100)) for k in range(5)]
    _, bucketed = reference_speed_table(records, OPEN_CLIP_CHECKOUT_SIDES).rows
    assert bucketed["ratio"] == pytest.approx(2, rel=0.01)


def test_losses_of_other_batches_are_not_compared() -> None:
    records = [run(side, 0, (1.0,)) for side in (OPEN_CLIP, OPEN_CLIP_BUCKETED)]
    ours = msgspec.structs.replace(records[0].measured, side=OURS)  # type: ignore[type-var]
    rows = loss_comparison_table([*records, recorded(ours, twenty_steps())]).rows  # type: ignore[arg-type]
    assert {row["reference"]: (row["steps"], row["equal"]) for row in rows} == {
        OPEN_CLIP: (3, "yes"),
        OPEN_CLIP_BUCKETED: (2, "yes"),
    }
