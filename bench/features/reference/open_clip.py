"""open_clip_train's own loop, of the installed release or of a checkout of its main branch, from our weights.

Sources: open_clip_torch 3.3.0, and mlfoundations/open_clip 89fb801 (4.2.0.dev0): `train.py`, `main.py`, `params.py`,
`optim.py`, `data.py` and `naflex_data.py` of `open_clip_train`.
"""

import copy
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import open_clip
import torch
from open_clip.loss import ClipLoss
from torch import Tensor, nn

from bench.data.order import SampleOrder, rows_of_shuffled_epochs
from bench.data.stream import Batch, PackStream
from bench.data.targets import CaptionTokens, to_device_async
from bench.environment.seeds import ORDER, derive_seed
from bench.experiment.auto_fields import resolve_precision_and_compile
from bench.experiment.config import Experiment, change
from bench.experiment.fields import OptimizerKernel, OptimizerSettings
from bench.features.reference import WARMUP_STEPS
from bench.features.reference.timing import RAMP_STEPS, WindowTimer, batch_number_of_step
from bench.interfaces.optimizer import weight_decay_groups
from bench.labels.subwords import SubwordEncoder
from bench.train.build import build_train_run
from bench.train.step import make_optimizer, torch_compile_mode
from models import StateDict, find_open_clip_config
from models.heads import DualEncoder, to_open_clip_state

PACKAGES = ("open_clip", "open_clip_train")
PRECISIONS = {"bf16": "amp_bf16", "fp16": "amp"}  # others are fp32
POOL = 2048  # captions that the checkout's bucketing sorts at once: its default
# Widths of captions in a compiled step, which bound its graphs, as params.py advises.
COMPILED_PAD_MULTIPLE = 16


class OpenClipRun(NamedTuple):
    """What a run of open_clip_train's loop leaves, apart from the times of its windows."""

    losses: list[Tensor]  # of all steps
    tokens_per_caption: float  # computed, padding included


@dataclass(slots=True)
class _PreparedBatchLoader:
    """The data loader of open_clip_train's loop; windows end where it requests the next batch."""

    batches: Sequence[Any]
    timer: WindowTimer
    num_batches: int
    num_samples: int

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches of all steps of the timer."""
        for step in self.timer.yield_and_time_steps():
            yield self.batches[batch_number_of_step(step, len(self.batches))]


def run_installed_open_clip(
    stream: PackStream[CaptionTokens],
    batches: Sequence[Batch[CaptionTokens]],
    timer: WindowTimer,
    optimizer_kernel: OptimizerKernel,
) -> OpenClipRun:
    """Train by the loop of the installed release, from our initial weights, on captions padded to the context."""
    from open_clip_train.scheduler import const_lr
    from open_clip_train.train import train_one_epoch

    experiment = stream.experiment
    device = stream.device
    batch_size = experiment.training.batch_size
    precision, is_compiled = resolve_precision_and_compile(experiment.runtime, device)
    model: nn.Module = open_clip.CLIP(**_make_model_config(experiment), output_dict=True)
    model.to(device)
    model.load_state_dict(_build_initial_weights(stream))
    settings = change(experiment, optimizer_kernel=optimizer_kernel).optimizer
    optimizer = make_optimizer(settings, model, weight_decay_groups(model.parameters()))
    if is_compiled:
        # As --torchcompile does.
        model = cast("nn.Module", torch.compile(model, mode=torch_compile_mode(experiment.runtime)))
    captions = _pad_captions_to_context(stream, len(batches))
    images = [batch.images for batch in batches]
    pairs = list(zip(images, captions, strict=True))
    loss = ClipLoss()
    losses = list[Tensor]()
    loss.register_forward_hook(
        lambda _loss, _inputs, values: losses.append(values["contrastive_loss"].detach())
    )
    arguments = SimpleNamespace(
        device=str(device),
        precision=PRECISIONS.get(precision, "fp32"),
        grad_clip_norm=settings.clip_norm,
        distill=False,
        horovod=False,
        skip_scheduler=False,
        wandb=False,
        accum_freq=1,
        world_size=1,
        rank=0,
        local_rank=0,
        batch_size=batch_size,
        log_every_n_steps=100,
    )
    scaler = torch.amp.GradScaler(device.type) if precision == "fp16" else None
    scheduler = const_lr(optimizer, settings.learning_rate, RAMP_STEPS, RAMP_STEPS)
    data = _make_train_data(pairs, timer, batch_size)
    train_one_epoch(model, data, loss, 0, optimizer, scaler, scheduler, None, arguments)
    return OpenClipRun(losses, float(experiment.text.context_length))


def run_open_clip_checkout(
    stream: PackStream[CaptionTokens],
    batches: Sequence[Batch[CaptionTokens]],
    timer: WindowTimer,
    checkout: Path,
) -> OpenClipRun:
    """Train by the loop of a checkout, from our initial weights, with its options for the least padding.

    It has fused AdamW, captions of variable length, and batches that its bucketing makes of the images of the windows.
    Its model configuration then has `variable_text`. The checkout's own CLIP tokenizer refuses that, because it has no
    token for padding; a user needs a configuration with a tokenizer that has one.
    """
    experiment = stream.experiment
    device = stream.device
    batch_size = experiment.training.batch_size
    precision, is_compiled = resolve_precision_and_compile(experiment.runtime, device)
    weights = _build_initial_weights(stream)
    modules = _import_checkout_modules(checkout)
    options = _checkout_options(experiment.optimizer, batch_size, precision)
    options |= {"--model": experiment.image.tower, "--device": str(device)}
    if is_compiled:
        options["--text-pad-multiple"] = str(COMPILED_PAD_MULTIPLE)
    words = [word for option in options.items() for word in option]
    arguments = modules["params"].parse_args(["--length-bucketing", *words])
    arguments.distributed = False
    arguments.wandb = False
    arguments.trackio = False
    arguments.world_size = 1
    arguments.rank = 0
    arguments.local_rank = 0
    model = _build_checkout_model(modules["open_clip"], experiment, weights)
    del weights  # the processes of all sides are alive together
    task = modules["task"].CLIPTask(model.to(device))
    settings = modules["optim"].OptimizerCfg(
        opt=arguments.opt,
        lr=arguments.lr,
        weight_decay=arguments.wd,
        beta1=arguments.beta1,
        beta2=arguments.beta2,
        eps=arguments.eps,
        opt_kwargs=arguments.opt_kwargs,
    )
    optimizer = modules["optim"].create_optimizer(model, settings)
    samples = _make_bucketed_batches(stream, batches, modules["naflex_data"], arguments)
    if is_compiled:
        task.compile(mode=torch_compile_mode(experiment.runtime))  # as --torchcompile does
    scaler = torch.amp.GradScaler(device.type) if precision == "fp16" else None
    schedule = modules["scheduler"].const_lr(optimizer, arguments.lr, RAMP_STEPS, RAMP_STEPS)
    state = modules["train"].TrainRun(task, optimizer, scaler, schedule)
    losses = list[Tensor]()
    task.register_forward_hook(
        lambda _task, _inputs, outputs: losses.append(outputs[0]["loss"].detach())
    )
    data = _make_train_data(samples, timer, batch_size)
    modules["train"].train_one_epoch(state, data, arguments)
    return OpenClipRun(losses, fmean(sample["text"].shape[1] for sample in samples))


def _checkout_options(
    settings: OptimizerSettings, batch_size: int, precision: str
) -> dict[str, str]:
    """Return options of open_clip_train with their values: optimizer, images per batch and precision."""
    options: dict[str, Any] = {
        "--precision": PRECISIONS.get(precision, "fp32"),
        "--batch-size": batch_size,
        "--lr": settings.learning_rate,
        "--wd": settings.weight_decay,
        "--eps": settings.eps,
        "--beta1": settings.betas[0],
        "--beta2": settings.betas[1],
        "--opt-kwargs": "fused=True",
        "--bucket-chunk": batch_size,
    }
    if settings.clip_norm is not None:
        options["--grad-clip-norm"] = settings.clip_norm
    return {name: str(value) for name, value in options.items()}


def _make_model_config(experiment: Experiment) -> dict[str, Any]:
    """Return the configuration of open_clip's model with the sizes of an experiment."""
    tower = experiment.image.tower
    config = copy.deepcopy(find_open_clip_config(tower))
    assert config is not None, f"open_clip has no model {tower!r}"
    config["vision_cfg"]["image_size"] = experiment.image.image_size
    vocabulary = SubwordEncoder(experiment.targets.subword_vocabulary)
    config["text_cfg"] |= {
        "context_length": experiment.text.context_length,
        "vocab_size": vocabulary.size,
    }
    return config


def _build_checkout_model(
    checkout_open_clip: Any, experiment: Experiment, weights: StateDict
) -> nn.Module:
    """Return a model of the checkout's module `open_clip`, with given weights, that reads captions of any length."""
    config = _make_model_config(experiment)
    text = config["text_cfg"] | {"variable_text": True}
    quick_gelu = config.get("quick_gelu", False)
    model: nn.Module = checkout_open_clip.CustomTextCLIP(
        config["embed_dim"], config["vision_cfg"], text, quick_gelu, output_dict=True
    )
    our_weights = checkout_open_clip.model.convert_to_custom_text_state_dict(weights)
    model.load_state_dict(our_weights)
    return model


def choose_order_for_bucketing(stream: PackStream[CaptionTokens], num_steps: int) -> SampleOrder:
    """Return an order of the images in which the few steps of a comparison have caption lengths of the whole data set.

    All sides read it where one of them is a checkout that buckets captions by length. A pool of images is sorted by the
    length of their captions and cut into batches. The windows have the images of batches at equal distances in it, in
    shuffled order. The warm-up has other images.
    """
    seed = stream.experiment.seed
    batch_size = stream.experiment.training.batch_size
    lengths = stream.targets.lengths
    timed_steps = num_steps - WARMUP_STEPS
    pool_size = max(POOL, timed_steps * batch_size) // batch_size * batch_size
    pool = rows_of_shuffled_epochs(seed, len(lengths), start=0, size=pool_size)
    sorted_batches = pool[lengths[pool].argsort(stable=True)].view(-1, batch_size)
    num_batches = len(sorted_batches)
    chosen_batches = (torch.arange(timed_steps) * num_batches + num_batches // 2) // timed_steps
    chosen = sorted_batches[chosen_batches].flatten()
    generator = torch.Generator().manual_seed(derive_seed(seed, ORDER, 0))
    shuffled = chosen[torch.randperm(len(chosen), generator=generator)]
    warm_up = rows_of_shuffled_epochs(
        seed, len(lengths), start=len(pool), size=WARMUP_STEPS * batch_size
    )
    shown = torch.arange(len(lengths))
    num_samples = num_steps * batch_size
    shown[rows_of_shuffled_epochs(seed, len(lengths), start=0, size=num_samples)] = torch.cat(
        [warm_up, shuffled]
    )
    return replace(stream.order, shown=shown)


def _import_checkout_modules(checkout: Path) -> dict[str, Any]:
    """Import a checkout's modules in place of the installed release; return them by the last part of their names.

    Modules that were imported before keep their references to the release.
    """
    for name in list(sys.modules):
        package, _, _ = name.partition(".")
        if package in PACKAGES:
            del sys.modules[name]
    sys.path.insert(0, str(checkout / "src"))
    modules = {
        "open_clip": import_module("open_clip"),
        "task": import_module("open_clip.task"),
    }
    for name in ("optim", "params", "scheduler", "train", "naflex_data"):
        modules[name] = import_module(f"open_clip_train.{name}")
    return modules


def _make_bucketed_batches(
    stream: PackStream[CaptionTokens],
    batches: Sequence[Batch[CaptionTokens]],
    naflex_data: Any,
    arguments: Any,
) -> list[dict[str, Tensor]]:
    """Return the batches in open_clip's form, padded by the checkout; after the warm-up, bucketed by length."""
    (ids,) = stream.targets.groups
    lengths = stream.targets.lengths
    images = [image for batch in batches for image in batch.images]
    rows = torch.cat([stream.order.batch_rows(k) for k in range(len(batches))])
    samples = []
    for row, image in zip(rows.tolist(), images, strict=True):
        samples.append({"image": image, "text": ids[row, : lengths[row]]})
    bucketer = naflex_data.LengthBucketer(
        [naflex_data.CaptionLength()],
        arguments.bucket_pool,
        arguments.bucket_chunk,
        arguments.seed,
        epoch=0,
    )
    warm_up = WARMUP_STEPS * arguments.batch_size
    ordered = [*samples[:warm_up], *bucketer(samples[warm_up:])]
    context_length = stream.experiment.text.context_length
    bucketed = []
    for start in range(0, len(ordered), arguments.batch_size):
        group = ordered[start : start + arguments.batch_size]
        text, _ = naflex_data.collate_variable_text(
            [sample["text"] for sample in group], 0, arguments.text_pad_multiple, context_length
        )
        image = torch.stack([sample["image"] for sample in group])
        bucketed.append({"image": image, "text": to_device_async(text, stream.device)})
    return bucketed


def _make_train_data(
    batches: Sequence[Any], timer: WindowTimer, batch_size: int
) -> dict[str, SimpleNamespace]:
    """Return the batches in the form of open_clip_train's data, in a loader that times windows."""
    num_batches = len(batches)
    loader = _PreparedBatchLoader(batches, timer, num_batches, num_batches * batch_size)
    return {"train": SimpleNamespace(set_epoch=lambda _: None, dataloader=loader)}


def _build_initial_weights(stream: PackStream[CaptionTokens]) -> StateDict:
    """Build our model, and return its weights under open_clip's names."""
    model = build_train_run(stream).model
    assert isinstance(model, DualEncoder)
    return to_open_clip_state(model)


def _pad_captions_to_context(stream: PackStream[CaptionTokens], num_batches: int) -> list[Tensor]:
    """Return the token ids of the captions of the first batches, padded to the context."""
    (ids,) = stream.targets.groups
    rows_of_batches = [stream.order.batch_rows(k) for k in range(num_batches)]
    return [to_device_async(ids[rows], stream.device) for rows in rows_of_batches]
