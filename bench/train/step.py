"""One update of a model, without clock, log or copy from the device, and the compilation of its blocks."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar, cast

import torch
from jaxtyping import Int
from open_clip.transformer import VisionTransformer as OpenClipViT
from torch import Tensor, nn

from bench.data.stream import Batch
from bench.data.targets import Target
from bench.environment.cores import count_available_cores
from bench.environment.torchrun_ranks import read_torchrun_ranks
from bench.experiment.auto_fields import resolve_text_padding
from bench.experiment.config import Experiment, join_first_names_shortened
from bench.experiment.fields import OptimizerSettings, RuntimeSettings
from bench.interfaces.method import Method, get_method
from bench.interfaces.optimizer import OPTIMIZERS, ParameterGroup
from bench.train.attention import use_attention_kernel
from bench.train.distributed import (
    AUTOCAST_DTYPES,
    ModelWithLoss,
    all_reduce_mean,
    norm_of_group_norms,
    parallelize,
    split_by_sharding,
)
from bench.train.weight_average import make_ema_and_update_function
from losses import Scalar
from losses.collectives import ProcessGroupOrNone, SimulatedGroup
from models.image_tower import ImageTower
from models.tower_blocks import TOWER_TYPES, get_all_tower_blocks

T = TypeVar("T", bound=Target)
GRAPHS_PER_IMAGE_SIZE = 16  # of a kind of block; bucketed captions have several widths


@dataclass(frozen=True, slots=True)
class TrainStep(Generic[T]):
    """Forward, backward and update, separate so that a separate pass can time each.

    `update` returns the loss. On the device, it skips an update whose loss or gradient is not finite, and returns NaN.
    Over several processes, an update that is not finite on one is skipped on all, and the loss is their mean. A skipped
    update keeps parameters and moments; the moving average and the token counts include the step.

    The host waits for the device in every update with `log_recomputed_grad_norm`, and with an optimizer that cannot
    skip an update on the device: Muon, and AdamW with an `optimizer_kernel` other than "fused". The released code
    waits, too, and torch's GradScaler reads the flag on the host for such an optimizer.

    In fp16, the loss is multiplied by the scale of `scaler` before the backward. A gradient that overflows at a scale
    above 1 lowers the scale; its update is skipped and counted, and the loss is returned.
    """

    forward: Callable[[Batch[T]], Scalar]
    backward: Callable[[Scalar], None]
    update: Callable[[Scalar, float], Scalar]
    optimizer: torch.optim.Optimizer
    num_micro_batches: int  # number of micro-batches, whose gradients are summed
    ema: nn.Module | None  # the model with the moving average of the weights; None: no average
    scaler: torch.amp.GradScaler  # of fp16; disabled in other precisions
    overflows: Int[Tensor, ""]  # number of updates skipped for an overflow in fp16, on the device
    # With `log_recomputed_grad_norm` the gradient's norm in each update in which it was finite; the logger clears them.
    grad_norms: list[float] = field(default_factory=list)

    def __call__(self, batch: Batch[T], learning_rate: float) -> Scalar:
        """Update the parameters once; return the loss, on the device, because reading it would wait for the step."""
        losses = []
        for micro_batch in batch.split_into_micro_batches(self.num_micro_batches):
            loss = self.forward(micro_batch)
            self.backward(loss)
            losses.append(loss.detach())
        return self.update(torch.stack(losses).mean(), learning_rate)


def make_train_step(
    experiment: Experiment,
    model: nn.Module,
    method: Method,
    precision: str,
    *,
    compiled: bool,
    group: ProcessGroupOrNone = None,
) -> TrainStep[T]:
    """Return the training step of a model, which this compiles and parallelizes.

    `precision` is "fp32", "bf16" or "fp16". The optimizer of the settings minimises the method's loss over `group`.
    """
    device = next(model.parameters()).device
    model_with_loss = ModelWithLoss(
        model,
        method.loss,
        group,
        make_simulated_group(experiment.method, experiment.runtime, experiment.training.batch_size),
    )
    compute_loss = parallelize(model_with_loss, experiment.runtime, precision)
    optimizer = make_optimizer(experiment.optimizer, model, method.parameter_groups(model))
    # The attribute that torch's GradScaler reads.
    skips_on_device = getattr(optimizer, "_step_supports_amp_scaling", False)
    clip_gradient = make_clip_and_return_norm_function(
        list(model.parameters()), experiment.optimizer.clip_norm
    )
    ema, update_ema = make_ema_and_update_function(
        model, experiment.optimizer.ema_decay, experiment.optimizer.ema_kernel
    )
    if compiled:  # after the moving average has its copy of the model, which is never called
        compile_tower_blocks(
            model, len(experiment.image.all_image_sizes), torch_compile_mode(experiment.runtime)
        )
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    overflows = torch.zeros((), dtype=torch.int64, device=device)
    grad_norms: list[float] = []
    # Equal for all methods of a comparison, whether they read captions or not, but for those that pack no captions.
    padding = resolve_text_padding(experiment.text, experiment.runtime, device)
    packs_captions = get_method(experiment.method).packs_captions
    has_fixed_shapes = padding == "max_length" or (padding == "packed_rows" and packs_captions)
    select_kernel = partial(
        use_attention_kernel, experiment.runtime.attention, has_fixed_shapes=has_fixed_shapes
    )

    def forward(batch: Batch[T]) -> Tensor:
        dtype = AUTOCAST_DTYPES.get(precision)
        with (
            torch.autocast(device.type, dtype, enabled=dtype is not None),
            select_kernel(),
        ):
            return cast(
                "Tensor",
                compute_loss(batch.images, batch.target, **batch.sample_rows_and_step_kwargs),
            )

    def backward(loss: Tensor) -> None:
        with select_kernel():  # checkpointed blocks are recomputed
            scaler.scale(loss / experiment.training.micro_batches).backward()  # type: ignore[no-untyped-call]

    def update(loss: Tensor, learning_rate: float) -> Tensor:
        """Update the parameters as `TrainStep` describes, and return the mean loss over the ranks."""
        mean_loss = all_reduce_mean(loss.detach(), group)
        is_scaled_up = scaler.scale(torch.ones_like(mean_loss)) > 1
        if experiment.optimizer.log_recomputed_grad_norm:
            norm = compute_grad_norm_on_host(model, scaler)
            if norm is not None:
                grad_norms.append(norm)
        scaler.unscale_(optimizer)
        finite = mean_loss.isfinite() & clip_gradient().isfinite()
        overflow = ~finite & mean_loss.isfinite() & is_scaled_up
        overflows.add_(overflow)
        for parameter_group in optimizer.param_groups:
            parameter_group["lr"] = learning_rate * parameter_group.get("lr_scale", 1.0)
        if skips_on_device:
            optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined] # GradScaler's flag for these
        if skips_on_device or finite:
            optimizer.step()
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            method.after_update(model)
        update_ema()
        return torch.where(finite | overflow, mean_loss, math.nan)

    return TrainStep(
        forward,
        backward,
        update,
        optimizer,
        experiment.training.micro_batches,
        ema,
        scaler,
        overflows,
        grad_norms,
    )


def make_simulated_group(
    method_name: str, runtime: RuntimeSettings, batch_size: int
) -> SimulatedGroup | None:
    """Return the group that `simulated_global_batch` sets; None without it, or if the loss compares no batch."""
    global_batch = runtime.simulated_global_batch
    if global_batch is None or not get_method(method_name).compares_batch:
        return None
    return SimulatedGroup(max(1, global_batch // batch_size))


def torch_compile_mode(runtime: RuntimeSettings) -> str | None:
    """Return the argument `mode` of `torch.compile`; None: torch's default."""
    return "max-autotune-no-cudagraphs" if runtime.compile == "max-autotune" else None


def compile_tower_blocks(model: nn.Module, num_image_sizes: int, mode: str | None = None) -> None:
    """Compile the blocks of a model's towers, and the patch embedding of open_clip's, by `torch.compile`.

    The rest of the model stays eager. Equal blocks share a graph, so that compilation does not take longer for deeper
    towers. Each block has its gradients before the blocks below it, so that DDP and FSDP2 communicate during the
    backward; DDP is not compiled, and dynamo must not split the graph of a block at the borders of DDP's buckets. More
    graphs than a limit are an error, for which `text_padding` packed or max_length is the remedy: by default dynamo
    would run the block eagerly without a warning. Dynamo takes the blocks of two towers for one function, and would
    compile the blocks of the second image tower for any number of tokens. If images have one size, each image tower
    therefore has graphs for its own shape.
    """
    from torch._dynamo import config
    from torch._inductor import config as inductor_config

    # The cores of this rank; inductor would take the cores of all ranks.
    cores = count_available_cores() // read_torchrun_ranks().local_world_size
    inductor_config.compile_threads = max(1, min(inductor_config.decide_compile_threads(), cores))
    config.recompile_limit = GRAPHS_PER_IMAGE_SIZE * num_image_sizes
    config.fail_on_recompile_limit_hit = True
    config.optimize_ddp = False
    for tower in model.modules():
        if not isinstance(tower, TOWER_TYPES):
            continue
        dynamic = False if num_image_sizes == 1 and isinstance(tower, ImageTower) else None
        for block in get_all_tower_blocks(tower):
            block.compile(mode=mode, dynamic=dynamic)
        if isinstance(tower, ImageTower) and isinstance(tower.trunk, OpenClipViT):
            embed = torch.compile(tower.trunk._embeds, mode=mode, dynamic=dynamic)  # noqa: SLF001
            tower.trunk._embeds = embed  # noqa: SLF001 - convolution, positions and `ln_pre`


def make_optimizer(
    settings: OptimizerSettings, model: nn.Module, parameter_groups: Iterable[ParameterGroup]
) -> torch.optim.Optimizer:
    """Return the optimizer that the settings name; ValueError for groups without one of the trained parameters."""
    groups: list[ParameterGroup] = []
    missing = {value: name for name, value in model.named_parameters() if value.requires_grad}
    for group in parameter_groups:
        for parameters in split_by_sharding(group["params"]):
            groups.append({**group, "params": parameters})
            for parameter in parameters:
                missing.pop(parameter, None)
    if missing:
        names = join_first_names_shortened([*missing.values()])
        raise ValueError(f"no parameter group of the method has {names}")
    return OPTIMIZERS[settings.optimizer].build(model, groups, settings)


def make_clip_and_return_norm_function(
    parameters: list[nn.Parameter], max_norm: float | None
) -> Callable[[], Scalar]:
    """Return a function that clips the gradient to `max_norm` (None: not) and returns its norm before."""
    groups = split_by_sharding(parameters)

    def clip() -> Tensor:
        """Clip the gradient, and return its norm before clipping."""
        norms = []
        for group in groups:
            gradients = [parameter.grad for parameter in group if parameter.grad is not None]
            if gradients:
                norms.append(torch.nn.utils.get_total_norm(gradients, foreach=True))
        norm = norm_of_group_norms(norms)
        if max_norm is not None:
            for group in groups:
                torch.nn.utils.clip_grads_with_norm_(group, max_norm, norm, foreach=True)
        return norm

    return clip


@torch.no_grad()
def compute_grad_norm_on_host(model: nn.Module, scaler: torch.amp.GradScaler) -> float | None:
    """Return the norm of the gradient, without the scaler's factor, as a number; None if it is not finite.

    It calls the same kernels, and the host waits for the device as often (scale, two tests, value), as in
    apple/corenet at 1aa3acd: `corenet/engine/default_trainer.py`, `compute_grad_norm`, and the reading in
    `corenet/metrics/metric_base.py`, `AverageMetric.update`.
    """
    inverse_scale = 1.0 / scaler.get_scale()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    norms = [torch.norm(gradient * inverse_scale) for gradient in gradients]
    norm = torch.norm(torch.stack(norms))
    return None if norm.isnan() or norm.isinf() else norm.item()
