"""Targets are selected on the device that holds them, and made in processes that ask for no device."""

import pickle
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bench.data.released_labels import DenseLabels
from bench.data.sample_stream import LoadedBatch, SampleStream
from bench.data.targets import LabelPairs, PrecomputedFeatures, Target
from bench.interfaces.method import METHODS
from bench.train.build import open_batch_stream
from tests.data.shards import write_shards
from tests.small import small
from tests.tensors import tensors_of

META, GPU = torch.device("meta"), torch.device("cuda", 0)
LABELS = LabelPairs.from_label_lists([[1, 2], [], [0]])
ON_DEVICE: dict[str, Callable[[], Target]] = {
    "labels": lambda: LABELS,
    "dense labels": lambda: DenseLabels(LABELS, 4).select(torch.arange(3)),
    "features": lambda: PrecomputedFeatures(torch.randn(3, 5)),
}


class RecordIndexes(TorchDispatchMode):
    """Records the devices of values that are indexed and of their indexes, which differ where a GPU would wait."""

    def __init__(self) -> None:
        super().__init__()
        self.devices = list[tuple[torch.device, torch.device]]()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func.overloadpacket.__name__ in ("index", "index_select"):
            indexes = args[1] if func.overloadpacket.__name__ == "index" else args[2:3]
            self.devices += [
                (args[0].device, one.device) for one in indexes if isinstance(one, Tensor)
            ]
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ON_DEVICE)
def test_rows_of_a_target_are_selected_by_indexes_on_its_device(kind: str) -> None:
    target = ON_DEVICE[kind]().to(META)
    with RecordIndexes() as recorded:
        target.select(torch.tensor([2, 0]))
    assert META in {values for values, _ in recorded.devices}
    assert all(values == index for values, index in recorded.devices)


@pytest.mark.parametrize("method", [*METHODS])
def test_targets_of_a_worker_never_ask_for_a_device(
    method: str, tmp_path: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA cannot start in a forked process, and a worker's own answer may differ from the training's."""
    data = write_shards(tmp_path / "data")
    stream = open_batch_stream(
        small(method, data=str(data), text_padding="auto", compile="auto"), GPU, results
    )
    assert isinstance(stream, SampleStream)

    def refuse(*_: object) -> NoReturn:
        raise AssertionError("a worker asked for a device")

    for name in ("is_available", "device_count", "current_device", "init", "_lazy_init"):
        monkeypatch.setattr(torch.cuda, name, refuse)
    loaded = pickle.loads(pickle.dumps(stream.loader))[0]
    assert isinstance(loaded, LoadedBatch)
    captions = loaded.target.captions
    assert (captions is not None) == METHODS[method].runs_text_model_on_captions(small(method))
    # As on the GPU, which compiles; a decoder reads one caption to a row.
    padding = "length_groups" if method == "cap" else "packed_rows"
    assert captions is None or captions.padding == padding


@pytest.mark.parametrize("method", [*METHODS])
def test_all_tensors_of_a_loaded_batch_are_pinned(
    method: str, tmp_path: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = list[Tensor]()
    monkeypatch.setattr(
        Tensor, "pin_memory", lambda one: [pinned.append(one.clone()), pinned[-1]][1]
    )
    fields = {"synset_label_format": "dense"} if method == "catlip" else {}
    data = str(write_shards(tmp_path / "data"))
    stream = open_batch_stream(
        small(method, data=data, workers=0, **fields), torch.device("cpu"), results
    )
    tensors = [*tensors_of(stream.load_batch_parts(0).pin_memory())]
    assert len(tensors) > 1 or method == "distill"
    assert {one.data_ptr() for one in tensors} <= {one.data_ptr() for one in pinned}
