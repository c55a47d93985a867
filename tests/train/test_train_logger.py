"""Lines on the progress of a training."""

import re
from collections.abc import Sequence

import pytest
import torch

from bench.data.image_sizes import make_batch_shape_schedule
from bench.data.order import SampleOrder
from bench.data.stream import Batch, BatchStream
from bench.data.targets import LabelPairs
from bench.train.train_logger import TrainLogger
from tests.small import small


class Resting(BatchStream[LabelPairs]):
    """Nobody asks it for a batch."""

    order = SampleOrder(0, 1000, make_batch_shape_schedule(small("catlip")))

    def load_batch_parts(self, k: int) -> None:
        raise NotImplementedError

    def make_batch(self, loaded: None) -> Batch[LabelPairs]:
        raise NotImplementedError

    def target(self, k: int) -> LabelPairs:
        raise NotImplementedError

    def keys(self, k: int) -> Sequence[str]:
        raise NotImplementedError


STREAM = Resting(small("catlip"), torch.device("cpu"))


def test_progress_is_logged_in_lines(capsys: pytest.CaptureFixture[str]) -> None:
    watch = TrainLogger(STREAM, 1000, 200)
    for loss in (4.0, 3.0, 2.0):
        watch.log_steps([loss] * 20, 320, 5e-4, [1.0, 2.0])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    # The gradient's norm is the mean over the steps since the last line.
    figures = r"loss 4.000, [\d,]+ images/s, 0% waiting for data, rate 5.00e-04, gradient norm 1.5"
    assert re.fullmatch(rf"catlip-tiny: 220 of 1,000 steps, {figures}, about \S+ left", lines[0])


def test_parallel_trainings_log_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TQDM_DISABLE", "1")
    watch = TrainLogger(STREAM, 1000, 0)
    watch.log_steps([4.0], 320, 5e-4)
    assert not capsys.readouterr().err
