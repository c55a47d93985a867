"""Both sides of a comparison do the same: equal losses from equal weights, and it says so where they do not."""

from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from bench.cli.reference import compare_early_losses, reference_speed_table
from bench.config import Experiment
from bench.data.released_labels import make_multi_hot
from bench.data.targets import Labels
from bench.record import Record, ReferenceRun
from bench.reference import DENSE, OPEN_CLIP, OURS, SIDES, WARMUP_STEPS
from bench.reference.runs import run_side
from tests.reports.conftest import HERE
from tests.small import small

CPU = torch.device("cpu")


def of(run: ReferenceRun, experiment: Experiment) -> Record:
    return Record(comparison="x", experiment=experiment, circumstances=HERE, measured=run)


@pytest.mark.parametrize(("reference", "method"), [("open-clip", "clip"), ("dense-bce", "catlip")])
def test_all_sides_have_equal_losses(reference: str, method: str, results: Path) -> None:
    experiment = small(method, clip_norm=None, steps_per_window=2)
    runs = [run_side(experiment, CPU, results, side, 0) for side in SIDES[reference]]
    for run in runs:
        assert len(run.window_seconds) == experiment.windows
        assert len(run.losses) == WARMUP_STEPS + 2 * experiment.windows
        assert run.losses == pytest.approx(runs[0].losses, rel=1e-5)
    assert {row["equal"] for row in compare_early_losses([of(run, experiment) for run in runs])} == {"yes"}
    if method == "clip":
        tokens = {run.side: run.tokens_per_caption for run in runs}
        assert tokens[OPEN_CLIP] == experiment.context_length > (tokens[OURS] or 0) > 3
    else:
        bytes_ = {run.side: run.target_bytes_per_image for run in runs}
        assert bytes_[DENSE] == 8 * run_head_rows(experiment)
        assert 0 < (bytes_[OURS] or 0) < bytes_[DENSE] / 50


def run_head_rows(experiment: Experiment) -> int:
    from bench.labels.vocabulary import read_vocabulary

    return len(read_vocabulary(experiment.synset_vocabulary).labels)


def test_dense_targets_are_one_at_the_labels() -> None:
    rows = [[3, 1], [], [0]]
    assert make_multi_hot(Labels.from_lists(rows), 4).tolist() == [[int(i in row) for i in range(4)] for row in rows]


def test_different_losses_are_reported_and_speeds_are_ratios() -> None:
    experiment = small("catlip")
    sides = {DENSE: (2.0, (1.0, 1.0)), OURS: (1.0, (1.0, 1.001))}
    runs = [
        ReferenceRun(
            side=side,
            round=round_,
            window_seconds=(seconds * (1 + round_ / 100),),
            losses=losses,
            tokens_per_caption=None,
            target_bytes_per_image=1.0,
        )
        for side, (seconds, losses) in sides.items()
        for round_ in range(5)
    ]
    records = [of(run, experiment) for run in runs]
    assert [row["equal"] for row in compare_early_losses(records)] == ["no"]
    base, ours = reference_speed_table(records, (DENSE, OURS)).rows
    assert base["ratio"] is None
    assert ours["ratio"] == pytest.approx(2)
    assert ours["verdict"] == "faster"
    shorter = [*records[:5], *(of(replace(run, losses=()), experiment) for run in runs[5:])]
    assert [row["equal"] for row in compare_early_losses(shorter)] == ["no"]
