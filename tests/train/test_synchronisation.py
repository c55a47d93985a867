"""No step makes the host wait for its device, but in settings that say so: nothing of the device is read, and no shape
depends on its values.

On a GPU, `tests/gpu` has the same law from CUDA's own check.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.interfaces.method import METHODS
from bench.train.build import build_train_run, open_batch_stream
from tests.small import FP16, small
from tests.tensors import tensors_of

CPU, META, RATE = torch.device("cpu"), torch.device("meta"), 1e-3
CASES: dict[str, tuple[str, dict[str, object]]] = {
    name: (name, {}) for name in (*[*METHODS], "flip", "clipa")
} | {
    "micro-batches": ("superclass", {"micro_batches": 2}),
    "dense labels": ("catlip", {"micro_batches": 2, "synset_label_format": "dense"}),
    "packed captions": ("superclip", {"text_padding": "packed_rows"}),
    "stored text features": ("siglip", {"text_features": "random"}),
    "recipe": (
        "clip",
        FP16 | {"clip_loss_precision": "autocast", "ema_decay": 0.9, "clip_norm": 1.0},
    ),
    "plain attention": ("clip", {"attention": "plain", "activation_checkpointing": True}),
    "fp32 softmax": ("clip", {"attention": "fp32_softmax", "activation_checkpointing": True}),
    "both gathered": ("clip", {"gathered_features": "both", "simulated_global_batch": 32}),
    "range augmentation": ("catlip", {"augmentation": "range"}),
    "average in a loop": ("superclass", {"ema_decay": 0.9, "ema_kernel": "for_loop"}),
}
# Settings in which a step waits, and how often.
WAITING_CASES: dict[str, tuple[str, dict[str, object], int]] = {
    "optimizer at once": ("clip", {"optimizer_kernel": "foreach"}, 1),
    "optimizer in a loop": ("catlip", {"optimizer_kernel": "for_loop"}, 1),
    "Muon": ("catlip", {"optimizer": "muon"}, 1),
    "gradient norm": ("clip", {"log_recomputed_grad_norm": True}, 3),
    "gradient norm in fp16": (
        "clip",
        FP16 | {"log_recomputed_grad_norm": True, "batch_size": 4},
        4,
    ),
}
# What waits on CUDA: a value is copied to the host, or the shape of the result depends on values.
WAITING = {
    *("_local_scalar_dense", "equal", "is_nonzero", "nonzero", "masked_select", "bincount"),
    *("_unique", "_unique2", "unique_dim", "unique_consecutive"),
}


class RefuseWaiting(TorchDispatchMode):
    """Refuses operations that wait for the device: on tensors of a model or batch, and on all that is made of them.

    The host's own tensors, which a CPU does not tell apart, stay free: order and lengths of the samples.
    """

    def __init__(self, held: Iterable[Tensor], *, allowed: int = 0) -> None:
        super().__init__()
        self.allowed = allowed  # number of operations that may wait
        storages = [tensor.untyped_storage() for tensor in held]
        self._storages = {storage._cdata: storage for storage in storages}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        is_on_device = any(leaf.untyped_storage()._cdata in self._storages for leaf in given)
        if is_on_device and self._waits(func.overloadpacket.__name__, args, kwargs or {}):
            self.allowed -= 1
            if self.allowed < 0:
                raise RuntimeError(f"{func} waits for the device")
        result = func(*args, **(kwargs or {}))
        if is_on_device:
            made = (
                leaf.untyped_storage() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)
            )
            # Kept, so that no other has their address.
            self._storages |= {storage._cdata: storage for storage in made}
        return result

    @staticmethod
    def _waits(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        if name.startswith("index"):  # by a mask
            return any(
                isinstance(leaf, Tensor) and leaf.dtype == torch.bool
                for leaf in tree_leaves(args[1:2])
            )
        return name in WAITING or (
            name == "repeat_interleave" and kwargs.get("output_size") is None
        )


@pytest.mark.parametrize("case", CASES)
def test_step_does_not_wait_for_the_device(case: str, results: Path) -> None:
    require_waits(*CASES[case], results, 0)


@pytest.mark.parametrize("case", WAITING_CASES)
def test_step_waits_as_often_as_the_released_code_where_a_setting_says_so(
    case: str, results: Path
) -> None:
    method, changes, waits = WAITING_CASES[case]
    require_waits(method, changes, results, waits)


def require_waits(method: str, changes: dict[str, object], results: Path, waits: int) -> None:
    """Take a step that waits so often for the device; an optimizer that is not fused counts steps on the host."""
    fewer = {"batch_size": 8, "subset": "random:32", "images_seen": 32, "warmup_images": 8}
    run = build_train_run(open_batch_stream(small(method, **fewer | changes), CPU, results))
    if run.step.scaler.is_enabled():  # at a scale that does not overflow
        run.step.scaler.load_state_dict(torch.amp.GradScaler("cpu", init_scale=2.0**8).state_dict())
    run.step(run.stream.batch(0), RATE)
    batch = run.stream.batch(1)
    held = [batch.images, *device_tensors(batch.target)]
    for model in filter(None, (run.model, run.step.ema)):
        held += [*model.parameters(), *model.buffers()]
    counts_on_device = any(group.get("fused") for group in run.step.optimizer.param_groups)
    for state in run.step.optimizer.state.values():
        held += [value for name, value in state.items() if counts_on_device or name != "step"]
    if run.step.scaler.is_enabled():
        held.append(run.step.scaler._scale)
    with RefuseWaiting(held, allowed=waits) as waiting:
        loss = run.step(batch, RATE)
    assert loss.isfinite()
    assert waiting.allowed == 0


def device_tensors(target: Any) -> list[Tensor]:
    """Return the tensors of a target that a batch moves to the device."""
    moved = target.to(META)
    return [
        tensor
        for tensor, copy in zip(tensors_of(target), tensors_of(moved), strict=True)
        if copy.device == META
    ]
