"""A training that is stopped and resumed is, to the last bit, the one that was not stopped."""

import io
import os
import runpy
import signal
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file

from bench.console.console import handle_stop_signals
from bench.data.decoding import UNKNOWN_FORMAT
from bench.data.stream import BatchStream, PackStream
from bench.experiment.config import Experiment
from bench.interfaces.optimizer import OPTIMIZERS
from bench.interfaces.schedule import SCHEDULES
from bench.records.record import Training
from bench.train import loop as training
from bench.train.build import open_batch_stream
from bench.train.checkpoint_manager import CheckpointManager
from bench.train.checkpoints import (
    TENSORS,
    CheckpointConfig,
    find_latest_valid_checkpoint,
    list_checkpoints_newest_first,
)
from bench.train.state import collect_state
from tests.chaos.disks import limit_file_size
from tests.data.layouts import LAYOUTS, Sample
from tests.data.shards import CAPTIONS, encode_image, make_image
from tests.processes import in_child
from tests.small import TWO_BLOCKS, few_images, small
from tests.tensors import differing

EXTENSIONS = Path(__file__).parents[2] / "docs" / "extensions"
CPU = torch.device("cpu")
BUDGETS = {"half": 48, "equal images": 96}  # 3 and 6 steps of 16
# Cool-downs of 2 and 3 steps: 1 + 2 + 2 + 3 steps in all.
SHARE = {
    "cooldown_share": 0.5,
    "warmup_images": 16,
    **TWO_BLOCKS,
}


@pytest.fixture(autouse=True)
def loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Captions become targets once an experiment: its stream is the same whoever asks."""
    streams: dict[str, BatchStream[object]] = {}

    def load(experiment: Experiment, device: torch.device, results: Path) -> BatchStream[object]:
        if experiment.method not in streams:
            streams[experiment.method] = open_batch_stream(experiment, device, results)
        stream = streams[experiment.method]
        assert stream.experiment == experiment
        return stream

    monkeypatch.setattr(training, "open_batch_stream", load)


@pytest.fixture(autouse=True)
def with_sgd(monkeypatch: pytest.MonkeyPatch) -> None:
    """The optimizer and the schedule of an extension are there."""
    extension = runpy.run_path(str(EXTENSIONS / "sgd.py"))["EXTENSION"]
    monkeypatch.setitem(OPTIMIZERS._objects, "sgd", *extension.optimizers)
    monkeypatch.setitem(SCHEDULES._objects, "constant", *extension.schedules)


@pytest.fixture
def interrupt_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Send this process a SIGTERM while the n-th batch from now is made; 0: never."""
    left, plain = {"batches": 0}, BatchStream.batch

    def batch(stream: BatchStream[object], k: int) -> object:
        left["batches"] -= 1
        if left["batches"] == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(stream, k)

    monkeypatch.setattr(BatchStream, "batch", batch)
    return lambda number: left.update(batches=number)


def go(experiment: Experiment, folder: Path, results: Path, minutes: float = 1e6) -> Training | int:
    """Begin, or go on from the newest checkpoint; return the training, or the exit code of one that was stopped."""
    kept = folder / "checkpoints"
    taken_up = (
        str(find_latest_valid_checkpoint(kept)[0]) if list_checkpoints_newest_first(kept) else ""
    )
    checkpoint_config = CheckpointConfig(
        folder=str(kept), interval_minutes=minutes, resume_from=taken_up
    )
    try:
        with handle_stop_signals() as stop:
            manager = CheckpointManager(checkpoint_config, "20260101T000000-train", stop)
            return training.train(
                experiment, CPU, results, BUDGETS, lambda n: folder / f"{n}.safetensors", manager
            )
    except SystemExit as ended:
        return int(str(ended.code))


def unstopped(experiment: Experiment, folder: Path, results: Path) -> Training:
    folder.mkdir()
    return training.train(experiment, CPU, results, BUDGETS, lambda n: folder / f"{n}.safetensors")


def require_equal(found: Training | int, folder: Path, whole: Training, whole_folder: Path) -> None:
    assert isinstance(found, Training)
    assert (found.trunk_losses, found.cooldown_losses) == (
        whole.trunk_losses,
        whole.cooldown_losses,
    )
    assert (found.branches, found.overflows) == (whole.branches, whole.overflows)
    for branch in whole.branches:
        assert not differing(
            load_file(folder / branch.tower), load_file(whole_folder / branch.tower)
        )


@pytest.mark.parametrize(
    ("method", "every", "changes"),
    [
        pytest.param(
            "superclass",
            1,
            SHARE | {"ema_decay": 0.9, "augmentation": "range"},
            marks=pytest.mark.slow,
        ),
        ("catlip", 7, SHARE | {"optimizer": "muon", "ema_decay": 0.9}),
        ("clip", 4, {"schedule": "constant", "optimizer": "sgd", **TWO_BLOCKS}),
        ("clip", 4, {"schedule": "cosine", "ema_decay": 0.9, **TWO_BLOCKS}),
    ],
)
def test_training_that_is_stopped_again_and_again_equals_an_unstopped_one(
    method: str,
    every: int,
    changes: dict[str, object],
    interrupt_at: Callable[[int], None],
    results: Path,
    tmp_path: Path,
) -> None:
    """Steps are the last of a process: in the trunk, in a cool-down, where the trunk goes on, at the end."""
    experiment = few_images(method, **changes)
    whole = unstopped(experiment, tmp_path / "whole", results)
    steps = len(whole.trunk_losses) + sum(map(len, whole.cooldown_losses))
    folder = tmp_path / "stopped"
    for taken in range(every, steps, every):
        interrupt_at(every)
        assert go(experiment, folder, results) == 143
        assert find_latest_valid_checkpoint(folder / "checkpoints")[1].steps_taken == taken
    interrupt_at(1)
    require_equal(go(experiment, folder, results), folder, whole, tmp_path / "whole")
    assert steps == (8 if experiment.training.schedule == "wsd" else 9)


def test_training_in_fp16_resumes_with_its_scale(
    interrupt_at: Callable[[int], None], results: Path, tmp_path: Path
) -> None:
    """The scale of the gradients falls in the first steps, whose updates are skipped and counted."""
    experiment = few_images(
        "catlip", synset_head_initialisation="uniform", precision="fp16", **SHARE
    )
    whole = unstopped(experiment, tmp_path / "whole", results)
    interrupt_at(2)  # in a cool-down that the trunk goes on after
    assert go(experiment, tmp_path, results) == 143
    interrupt_at(0)
    require_equal(go(experiment, tmp_path, results), tmp_path, whole, tmp_path / "whole")
    assert whole.overflows > 0


def test_counts_of_samples_are_those_of_an_unstopped_training(
    interrupt_at: Callable[[int], None],
    results: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        training, "open_batch_stream", open_batch_stream
    )  # a process has a stream of its own
    usable = [
        Sample(encode_image(make_image(number)), CAPTIONS[number % 6]) for number in range(31)
    ]
    odd = Sample(b"<html>", "a dog"), Sample(usable[0].image, " \n")
    data = LAYOUTS["tars"](tmp_path / "data", [*usable[1:], *odd])
    experiment = small("catlip", data=str(data), **SHARE)
    whole = unstopped(experiment, tmp_path / "whole", results)
    interrupt_at(5)
    assert go(experiment, tmp_path / "stopped", results) == 143
    assert find_latest_valid_checkpoint(tmp_path / "stopped" / "checkpoints")[1].unusable != {}
    interrupt_at(0)
    found = go(experiment, tmp_path / "stopped", results)
    require_equal(found, tmp_path / "stopped", whole, tmp_path / "whole")
    assert isinstance(found, Training)
    assert found.skipped == whole.skipped
    assert whole.skipped[UNKNOWN_FORMAT] > 2


def test_training_stopped_on_a_gpu_in_a_cooldown_resumes_on_a_cpu(
    interrupt_at: Callable[[int], None], results: Path, tmp_path: Path
) -> None:
    """The trunk that waits has the state of a generator that this machine does not have."""
    experiment = few_images("catlip", **SHARE)
    whole = unstopped(experiment, tmp_path / "whole", results)
    interrupt_at(2)  # in a cool-down that the trunk goes on after
    with patch.object(
        training,
        "collect_state",
        lambda run: collect_state(run) | {"generator.cuda": torch.ones(16)},
    ):
        assert go(experiment, tmp_path / "stopped", results) == 143
    path, _ = find_latest_valid_checkpoint(tmp_path / "stopped" / "checkpoints")
    assert "trunk.generator.cuda" in load_file(path / TENSORS)
    interrupt_at(0)
    require_equal(
        go(experiment, tmp_path / "stopped", results),
        tmp_path / "stopped",
        whole,
        tmp_path / "whole",
    )


@pytest.mark.parametrize(
    ("minutes", "steps"), [(1e6, (5, 1)), (1e-9, (7, 6))], ids=["before cool-downs", "each step"]
)
def test_checkpoints_are_saved_before_cooldowns_and_at_each_interval(
    minutes: float,
    steps: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
    results: Path,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(training, "CHECK_INTERVAL", 1)
    go(few_images("catlip", **SHARE), tmp_path, results, minutes=minutes)
    paths = list_checkpoints_newest_first(tmp_path / "checkpoints")
    assert [path.name for path in paths] == [f"step-{step:08}" for step in steps]


def stopped_on_a_full_disk(experiment: Experiment, folder: Path, results: Path) -> str:
    """Go on until the end of the first step, in a process of its own; return what it says."""

    def batch(stream: PackStream, k: int) -> object:
        os.kill(os.getpid(), signal.SIGTERM)
        return plain(stream, k)

    plain, text = PackStream.batch, io.StringIO()
    with (
        patch.object(PackStream, "batch", batch),
        limit_file_size(1_000_000),
        redirect_stderr(text),
    ):
        assert go(experiment, folder, results) == 143
    return text.getvalue()


def test_full_disk_keeps_the_previous_checkpoint_and_reports_it(
    interrupt_at: Callable[[int], None], results: Path, tmp_path: Path
) -> None:
    experiment = few_images("catlip", **SHARE)
    interrupt_at(3)
    assert go(experiment, tmp_path, results) == 143
    assert "no checkpoint of step 4, the one before it is kept" in in_child(
        stopped_on_a_full_disk, experiment, tmp_path, results
    )
    kept = list_checkpoints_newest_first(tmp_path / "checkpoints")
    assert [path.name for path in kept] == ["step-00000003", "step-00000001"]
