"""Batches for a GPU are pinned in a thread, one ahead of the training; the pinned copies of these tests are clones."""

import multiprocessing
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bench.console.console import UserError
from bench.data.loader_workers import PinningLoader
from bench.data.sample_stream import SampleStream
from bench.interfaces.method import METHODS
from bench.train.build import load_data
from tests.data.shards import write_shards
from tests.data.test_shard_stream import are_equal, stream
from tests.processes import wait_until
from tests.small import small
from tests.tensors import tensors_of

CPU, GPU = torch.device("cpu"), torch.device("cuda", 3)


@pytest.fixture(autouse=True)
def pinned(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[int, str]]:
    """The name of the thread that pinned a tensor, by the address of the pinned copy."""
    threads, copies = dict[int, str](), list[Tensor]()

    def pin_memory(tensor: Tensor) -> Tensor:
        copies.append(tensor.clone())
        threads[copies[-1].data_ptr()] = threading.current_thread().name
        return copies[-1]

    monkeypatch.setattr(Tensor, "pin_memory", pin_memory)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    yield threads
    copies.clear()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("data"))


class Numbered:
    """Loads a batch of its number, and what is given for some of them."""

    def __init__(self, failures: dict[int, Exception] | None = None) -> None:
        self.asked, self.failures = list[int](), failures or {}

    def __getitem__(self, k: int) -> Tensor | Exception:
        self.asked.append(k)
        if isinstance(failure := self.failures.get(k), RuntimeError):
            raise failure
        return failure or torch.full((4,), k)


def pinning_threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith("pinning")]


def test_pinned_batches_equal_those_of_the_training_process_in_any_order(
    data: Path, results: Path
) -> None:
    plain, shown = stream(data, results), stream(data, results, workers=2)
    shown._batches = PinningLoader(shown._batches, GPU)
    for k in (0, 1, 2, 900, 1, 2):
        assert are_equal(plain.batch(k), shown.batch(k))
    assert plain.skipped == shown.skipped


def test_stream_for_a_gpu_pins_what_its_workers_load(data: Path, results: Path) -> None:
    experiment = small("clip", data=str(data), workers=1)
    on_gpu, on_cpu = (load_data(experiment, device, results) for device in (GPU, CPU))
    assert isinstance(on_gpu, SampleStream)
    assert isinstance(on_gpu._batches, PinningLoader)
    assert on_gpu.load_batch_parts(0).images.equal(on_cpu.load_batch_parts(0).images)
    assert not isinstance(on_cpu._batches, PinningLoader)


@pytest.mark.parametrize("method", [*METHODS])
def test_all_tensors_of_a_batch_are_pinned_in_the_thread(
    method: str, data: Path, results: Path, pinned: dict[int, str]
) -> None:
    fields = {"label_format": "dense"} if method == "catlip" else {}
    loaded = PinningLoader(stream(data, results, method, **fields)._loader, GPU)[0]
    tensors = [*tensors_of(loaded)]
    assert len(tensors) > 1 or method == "distill"
    assert {pinned[one.data_ptr()].partition("_")[0] for one in tensors} == {"pinning"}


def test_loader_is_asked_for_one_batch_ahead_and_earlier_pinned_ones_are_released() -> None:
    loader = Numbered()
    shown, held = PinningLoader(loader, GPU), list[weakref.ref[Tensor]]()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Tensor, "pin_memory", Tensor.clone)
        for k in range(10):
            batch = shown[k]
            held.append(weakref.ref(batch))
            assert max(loader.asked) <= k + 1
            assert [one() for one in held[:-1]] == [None] * k
    wait_until(lambda: len(loader.asked) > 10)
    assert loader.asked == [*range(11)]


def test_errors_come_with_their_batch_and_the_next_one_is_loaded() -> None:
    failures = {1: UserError("a shard is shorter"), 2: RuntimeError("the thread raised")}
    shown = PinningLoader(Numbered(failures), GPU)
    assert torch.full((4,), 0).equal(shown[0])
    assert shown[1] is failures[1]
    with pytest.raises(RuntimeError, match="the thread raised"):
        shown[2]
    assert torch.full((4,), 3).equal(shown[3])


def test_nothing_runs_on_when_the_stream_is_gone(data: Path, results: Path) -> None:
    before = {*pinning_threads()}
    shown = stream(data, results, workers=1)
    shown._batches = PinningLoader(shown._batches, GPU)
    shown.load_batch_parts(0)
    workers, threads = multiprocessing.active_children(), {*pinning_threads()} - before
    assert workers
    assert threads
    del shown
    wait_until(
        lambda: (
            not (threads & {*pinning_threads()})
            and not {*workers} & {*multiprocessing.active_children()}
        )
    )
