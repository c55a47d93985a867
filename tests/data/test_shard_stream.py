"""Batch k of shards is a pure function of the experiment, the rank and k, wherever it is made."""

import multiprocessing
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from bench.console.console import EXIT_CODE_BY_SIGNAL, UserError
from bench.data import loader_workers
from bench.data.decoding import CORRUPTED, UNKNOWN_FORMAT
from bench.data.sample_stream import SampleStream
from bench.data.stream import Batch
from bench.data.targets import CaptionsWithRows, CaptionTokens
from bench.experiment.config import Experiment
from bench.interfaces.method import METHODS
from bench.train.build import open_batch_stream
from tests.data.shards import (
    CAPTIONS,
    open_shards,
    webdataset_members,
    write_shard,
    write_shards,
)
from tests.data.test_stream import CPU
from tests.processes import PRELOAD, forkserver, have_ended, started, wait_until
from tests.small import small


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("data"))


def stream(data: Path, results: Path, method: str = "clip", **changes: object) -> SampleStream:
    found = open_batch_stream(small(method, data=str(data), **changes), CPU, results)
    assert isinstance(found, SampleStream)
    return found


def tensors(batch: Batch) -> list[torch.Tensor]:
    target = batch.target
    if isinstance(target, CaptionTokens):
        return [
            batch.images,
            *target.groups,
            target.lengths,
            target.ends,
            target.inverse_permutation,
        ]
    return [batch.images, target.rows, target.columns, target.starts]


def are_equal(one: Batch, other: Batch) -> bool:
    return all(
        first.equal(second) for first, second in zip(tensors(one), tensors(other), strict=True)
    )


def test_batches_are_bit_equal_with_zero_one_and_two_workers(data: Path, results: Path) -> None:
    with_broken = write_shard(
        data.parent / "broken.tar", {**webdataset_members(0, 20), "x.jpg": b"?", "x.txt": b"x"}
    )
    streams = [stream(with_broken, results, workers=workers, batch_size=5) for workers in (0, 1, 2)]
    torch.manual_seed(0)
    for k in (0, 1, 2, 900, 1, 2):  # on, forward, back and on
        first, *others = [each.batch(k) for each in streams]
        assert all(are_equal(first, other) for other in others)
        assert len({tuple(each.keys(k)) for each in streams}) == 1
    assert streams[0].skipped == streams[1].skipped == streams[2].skipped != {}
    drawn = torch.rand(3)
    torch.manual_seed(0)
    assert drawn.equal(torch.rand(3))  # workers take nothing from the generator that models use
    assert all(each.wait_seconds > 0 for each in streams)


def load_after_signals(data: Path, results: Path, workers: Any) -> None:
    """Load before and after each signal to all other processes of a job, then tell the workers and wait."""
    loader_workers.FORKSERVER_PRELOAD = PRELOAD
    expected, shown = stream(data, results), stream(data, results, workers=2)
    assert are_equal(expected.batch(0), shown.batch(0))
    children = psutil.Process().children(recursive=True)
    assert len(children) >= 3  # two workers and the process from which they fork
    for steps, number in zip(
        (range(1, 10), range(10, 20), range(20, 30)), EXIT_CODE_BY_SIGNAL, strict=True
    ):
        for child in children:
            child.send_signal(number)
        assert all(are_equal(expected.batch(k), shown.batch(k)) for k in steps), number
    assert {*children} == {*psutil.Process().children(recursive=True)}
    workers.put([worker.pid for worker in multiprocessing.active_children()])
    signal.pause()


def test_workers_load_on_after_a_signal_and_end_with_their_killed_training(
    data: Path, results: Path
) -> None:
    """A training needs them until it has saved its state."""
    workers = forkserver().SimpleQueue()
    training = started(load_after_signals, data, results, workers)
    wait_until(lambda: not workers.empty() or not training.is_alive())
    assert training.is_alive()
    processes = [psutil.Process(pid) for pid in workers.get()]
    training.kill()
    try:
        assert len(processes) == 2
        assert have_ended(processes)
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def test_epoch_shows_every_usable_sample_once(data: Path, results: Path) -> None:
    whole = stream(data, results, batch_size=11, images_seen=110)
    keys = [key for k in range(6) for key in whole.keys(k)]
    assert len({*keys[:33]}) == 33
    assert sorted(keys[:33]) == sorted(keys[33:]) != keys[:33]
    assert not {"none", "lost", "null"} & {*keys}


def test_image_is_paired_with_its_caption(data: Path, results: Path) -> None:
    shown = stream(data, results, crop_scale=(1.0, 1.0), flip=False)
    batch, keys = shown.batch(2), shown.keys(2)
    texts = [CAPTIONS[int(key.removeprefix("train/")) % 6] for key in keys]
    captions = (
        METHODS["clip"]
        .make_target_function(shown.experiment)(CaptionsWithRows.from_texts(texts))
        .select(torch.arange(len(keys)))
    )
    assert are_equal(Batch(batch.images, captions), batch)
    # `make_image` draws it by the number, as captions are chosen.
    blue = batch.images[:, 2].mean(dim=(1, 2))
    order = torch.tensor([CAPTIONS.index(text) for text in texts]).argsort(stable=True)
    assert torch.corrcoef(torch.stack([blue[order], torch.arange(len(order)).float()]))[0, 1] > 0.95


def test_broken_image_is_replaced_without_shifting_others(tmp_path: Path, results: Path) -> None:
    members = webdataset_members(0, 16)
    whole = write_shard(tmp_path / "whole.tar", members)
    corrupted = {"train/0003.jpeg": b"<html>", "train/0006.webp": members["train/0006.webp"][:-30]}
    broken = write_shard(tmp_path / "broken.tar", {**members, **corrupted})
    one, other = stream(whole, results), stream(broken, results)
    assert one.batch(0).images.shape == other.batch(0).images.shape
    assert other.skipped == {CORRUPTED: 1, UNKNOWN_FORMAT: 1}
    images = zip(one.keys(0), one.batch(0).images, other.batch(0).images, strict=True)
    for key, image, shown in images:
        assert image.equal(shown) != (key in ("train/0003", "train/0006"))


def test_too_many_broken_images_stop_the_run_with_error_classes(
    tmp_path: Path, results: Path
) -> None:
    def shard(broken: int) -> Path:
        bad = {
            f"bad{n}.{s}": c
            for n in range(broken)
            for s, c in (("jpg", b"<html>"), ("txt", b"a dog"))
        }
        return write_shard(tmp_path / f"{broken}.tar", {**webdataset_members(0, 30), **bad})

    tolerated = stream(shard(3), results, batch_size=33, images_seen=330)
    assert len(tolerated.batch(0).images) == 33
    refused = stream(shard(20), results, batch_size=50, images_seen=500)
    with pytest.raises(
        ValueError,
        match=r"of \d+ images cannot be used \(not JPEG, PNG, WEBP, GIF: \d+\), more than 1%",
    ):
        refused.batch(0)
    only = {f"{n}.{s}": c for n in range(3) for s, c in (("jpg", b"<html>"), ("txt", b"a dog"))}
    nothing = stream(write_shard(tmp_path / "only.tar", only), results, workers=0)
    with pytest.raises(
        ValueError,
        match=r"no image can be used of \d and of 32 others drawn for it",
    ):
        nothing.batch(0)


def test_worker_error_is_one_line(tmp_path: Path, results: Path) -> None:
    path = write_shard(tmp_path / "s.tar", webdataset_members(0, 16))
    cut = stream(path, results, workers=1)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"^\S*s\.tar has become shorter since training began$"):
        cut.batch(0)


class Unpicklable:
    """A target that no process can hand over."""

    def __reduce__(self) -> str:
        raise RuntimeError("it has no pickle")

    def select(self, _: torch.Tensor) -> "Unpicklable":
        return self


def unpicklable(_: Experiment) -> Callable[[CaptionsWithRows], Any]:
    return lambda _: Unpicklable()


def test_lost_batch_is_an_error_of_the_run_and_the_next_one_is_loaded(
    data: Path, results: Path
) -> None:
    shards = open_shards(str(data), results / "cache")
    lost = SampleStream(small("catlip"), shards, unpicklable, CPU, num_workers=1)
    for k in (0, 1):
        with pytest.raises(UserError, match=r"cannot hand over a batch \(it has no pickle\): use "):
            lost.load_batch_parts(k)


def test_killed_worker_is_an_error_of_the_run(data: Path, results: Path) -> None:
    killed = stream(data, results, workers=1)
    killed.load_batch_parts(0)
    for worker in multiprocessing.active_children():
        worker.kill()
    with pytest.raises(
        UserError, match=r"^a loader worker was killed, perhaps because memory ran out "
    ):
        [killed.load_batch_parts(k) for k in range(1, 10)]


def test_batch_on_the_device_has_planes_of_colours(data: Path, results: Path) -> None:
    """As batches of the pack have them: the layout would choose other kernels."""
    shown = stream(data, results)
    assert shown.load_batch_parts(0).images.permute(0, 2, 3, 1).is_contiguous()
    assert shown.batch(1).images.is_contiguous()
