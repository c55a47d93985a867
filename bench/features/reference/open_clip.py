"""open_clip_train's own loop, of the installed release or of a checkout of its main branch, from our weights.

Sources: open_clip_torch 3.3.0, and mlfoundations/open_clip 89fb801 (4.2.0.dev0): `train.py`, `main.py`, `params.py`,
`optim.py`, `data.py` and `naflex_data.py` of `open_clip_train`.
"""

import copy
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any, cast

import torch
from jaxtyping import Int
from open_clip.loss import ClipLoss
from torch import Tensor, nn

from bench.data.order import SampleOrder, shuffled_rows
from bench.data.stream import Batch, PackStream
from bench.data.targets import Tokens, to_device
from bench.environment.seeds import ORDER, derive_seed
from bench.experiment.auto_fields import resolve_precision_and_compile
from bench.experiment.config import Experiment, change
from bench.features.reference import OPEN_CLIP_FUSED, WARMUP_STEPS
from bench.features.reference.timing import DEFAULT_KERNELS, RAMP_STEPS, WindowTimer, batch_number
from bench.interfaces.optimizer import weight_decay_groups
from bench.labels.subwords import SubwordIds
from bench.train.build import build_train_run
from bench.train.step import make_optimizer, torch_compile_mode
from models import open_clip_config
from models.heads import DualEncoder, build_open_clip_model, to_open_clip_state

PACKAGES = ("open_clip", "open_clip_train")
PRECISIONS = {"bf16": "amp_bf16", "fp16": "amp"}  # others are fp32
POOL = 2048  # captions that the checkout's bucketing sorts at once: its default
# Widths of captions in a compiled step, which bound its graphs, as params.py advises.
COMPILED_PAD_MULTIPLE = 16


@dataclass(slots=True)
class _TimedLoader:
    """The data loader of open_clip_train's loop; windows end where it requests the next batch."""

    batches: Sequence[Any]
    windows: WindowTimer
    num_batches: int
    num_samples: int

    def __iter__(self) -> Iterator[Any]:
        for k in self.windows.time_steps():
            yield self.batches[batch_number(k, len(self.batches))]


def run_installed_open_clip(
    stream: PackStream[Tokens], batches: Sequence[Batch[Tokens]], windows: WindowTimer, side: str
) -> tuple[list[Tensor], float]:
    """Run the loop of the installed release; return losses and tokens per caption, which is padded to the context."""
    from open_clip_train.scheduler import const_lr
    from open_clip_train.train import train_one_epoch

    experiment = stream.experiment
    device = stream.device
    precision, is_compiled = resolve_precision_and_compile(experiment.runtime, device)
    model = build_open_clip_model(
        experiment.image.tower, *_model_sizes(experiment), has_bias=False
    ).to(device)
    model.load_state_dict(_initial_weights(stream))
    kernel = "fused" if side == OPEN_CLIP_FUSED else DEFAULT_KERNELS[device.type]
    settings = change(experiment, optimizer_kernel=kernel).optimizer
    optimizer = make_optimizer(settings, model, weight_decay_groups(model.parameters()))
    if is_compiled:
        # As --torchcompile does.
        model = cast("nn.Module", torch.compile(model, mode=torch_compile_mode(experiment.runtime)))
    pairs = []
    for batch, text in zip(batches, _padded_captions(stream, len(batches)), strict=True):
        pairs.append((batch.images, text))
    loss = ClipLoss()
    losses = list[Tensor]()
    loss.register_forward_hook(
        lambda _loss, _inputs, values: losses.append(values["contrastive_loss"].detach())
    )
    arguments = SimpleNamespace(
        device=str(device),
        precision=PRECISIONS.get(precision, "fp32"),
        grad_clip_norm=experiment.optimizer.clip_norm,
        distill=False,
        horovod=False,
        skip_scheduler=False,
        wandb=False,
        accum_freq=1,
        world_size=1,
        rank=0,
        local_rank=0,
        batch_size=experiment.training.batch_size,
        log_every_n_steps=100,
    )
    scaler = torch.amp.GradScaler(device.type) if precision == "fp16" else None
    scheduler = const_lr(optimizer, experiment.optimizer.learning_rate, RAMP_STEPS, RAMP_STEPS)
    data = {"train": _train_data(pairs, windows, experiment)}
    train_one_epoch(model, data, loss, 0, optimizer, scaler, scheduler, None, arguments)
    return losses, float(experiment.text.context_length)


def run_open_clip_checkout(
    stream: PackStream[Tokens],
    batches: Sequence[Batch[Tokens]],
    windows: WindowTimer,
    checkout: Path,
) -> tuple[list[Tensor], float]:
    """Run the loop of a checkout with its options for the least padding; return losses and mean tokens per caption.

    It has fused AdamW, captions of variable length, and batches that its bucketing makes of the images of the windows.
    Its model configuration then has `variable_text`. The checkout's own CLIP tokenizer refuses that, because it has no
    token for padding; a user needs a configuration with a tokenizer that has one.
    """
    experiment = stream.experiment
    precision, is_compiled = resolve_precision_and_compile(experiment.runtime, stream.device)
    weights = _initial_weights(stream)
    modules = _import_checkout(checkout)
    words = _checkout_arguments(experiment, stream.device, precision, is_compiled=is_compiled)
    arguments = modules["params"].parse_args(words)
    arguments.distributed = False
    arguments.wandb = False
    arguments.trackio = False
    arguments.world_size = 1
    arguments.rank = 0
    arguments.local_rank = 0
    model = _build_checkout_model(modules["open_clip"], experiment, weights)
    del weights  # the processes of all sides are alive together
    task = modules["task"].CLIPTask(model.to(stream.device))
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
    samples = _bucketed_batches(stream, batches, modules["naflex_data"], arguments)
    if is_compiled:
        task.compile(mode=torch_compile_mode(experiment.runtime))  # as --torchcompile does
    scaler = torch.amp.GradScaler(stream.device.type) if precision == "fp16" else None
    schedule = modules["scheduler"].const_lr(optimizer, arguments.lr, RAMP_STEPS, RAMP_STEPS)
    state = modules["train"].TrainRun(task, optimizer, scaler, schedule)
    losses = list[Tensor]()
    task.register_forward_hook(
        lambda _task, _inputs, outputs: losses.append(outputs[0]["loss"].detach())
    )
    data = {"train": _train_data(samples, windows, experiment)}
    modules["train"].train_one_epoch(state, data, arguments)
    return losses, fmean(sample["text"].shape[1] for sample in samples)


def _checkout_arguments(
    experiment: Experiment, device: torch.device, precision: str, *, is_compiled: bool
) -> list[str]:
    """Return the command line of open_clip_train for an experiment."""
    settings = experiment.optimizer
    options = {
        "--model": experiment.image.tower,
        "--device": device,
        "--precision": PRECISIONS.get(precision, "fp32"),
        "--batch-size": experiment.training.batch_size,
        "--lr": settings.learning_rate,
        "--wd": settings.weight_decay,
        "--eps": settings.eps,
        "--beta1": settings.betas[0],
        "--beta2": settings.betas[1],
        "--opt-kwargs": "fused=True",
        "--bucket-chunk": experiment.training.batch_size,
    }
    if settings.clip_norm is not None:
        options["--grad-clip-norm"] = settings.clip_norm
    if is_compiled:
        options["--text-pad-multiple"] = COMPILED_PAD_MULTIPLE
    words = ["--length-bucketing"]
    for name, value in options.items():
        words += [name, str(value)]
    return words


def _build_checkout_model(
    open_clip: Any, experiment: Experiment, weights: Mapping[str, Tensor]
) -> nn.Module:
    """Return the checkout's model with given weights, whose text tower reads captions of any length."""
    config = copy.deepcopy(open_clip_config(experiment.image.tower))
    assert config is not None, f"open_clip has no model {experiment.image.tower!r}"
    image_size, context, vocabulary = _model_sizes(experiment)
    vision = config["vision_cfg"]
    vision["image_size"] = image_size
    text = config["text_cfg"]
    text |= {"context_length": context, "vocab_size": vocabulary, "variable_text": True}
    quick_gelu = config.get("quick_gelu", False)
    model: nn.Module = open_clip.CustomTextCLIP(
        config["embed_dim"], vision, text, quick_gelu, output_dict=True
    )
    model.load_state_dict(open_clip.model.convert_to_custom_text_state_dict(weights))
    return model


def order_for_bucketing(stream: PackStream[Tokens], num_steps: int) -> SampleOrder:
    """Return the order in which all sides read the images if a checkout, which buckets captions, is one of them.

    A pool of images is sorted by the length of their captions and cut into batches. The windows have the images of
    batches at equal distances in it, so that few steps have the lengths of the whole pool. Their images are shuffled.
    The warm-up has other images.
    """
    seed = stream.experiment.seed
    batch_size = stream.experiment.training.batch_size
    lengths = stream.targets.lengths
    timed_steps = num_steps - WARMUP_STEPS
    pool_size = max(POOL, timed_steps * batch_size) // batch_size * batch_size
    pool = shuffled_rows(seed, len(lengths), start=0, size=pool_size)
    sorted_batches = pool[lengths[pool].argsort(stable=True)].view(-1, batch_size)
    num_batches = len(sorted_batches)
    places = (torch.arange(timed_steps) * num_batches + num_batches // 2) // timed_steps
    chosen = sorted_batches[places].flatten()
    generator = torch.Generator().manual_seed(derive_seed(seed, ORDER, 0))
    shuffled = chosen[torch.randperm(len(chosen), generator=generator)]
    warm_up = shuffled_rows(seed, len(lengths), start=len(pool), size=WARMUP_STEPS * batch_size)
    rows = torch.cat([warm_up, shuffled]).view(num_steps, batch_size)
    order = {field.name: getattr(stream.order, field.name) for field in fields(stream.order)}
    return _ChosenOrder(**order, rows=rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ChosenOrder(SampleOrder):
    """An order that is given row by row."""

    rows: Int[Tensor, "steps batch"]

    def batch_rows(self, k: int) -> Int[Tensor, " batch"]:
        return self.rows[k]


def _import_checkout(checkout: Path) -> dict[str, Any]:
    """Import the checkout's modules and return them by the last part of their names.

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


def _bucketed_batches(
    stream: PackStream[Tokens], batches: Sequence[Batch[Tokens]], naflex_data: Any, arguments: Any
) -> list[dict[str, Tensor]]:
    """Return the warm-up's batches and, in the checkout's order, the windows' images, each padded by the checkout."""
    (ids,) = stream.targets.groups
    lengths = stream.targets.lengths
    samples = []
    for k, batch in enumerate(batches):
        rows = stream.order.batch_rows(k).tolist()
        for row, image in zip(rows, batch.images, strict=True):
            text = ids[row, : lengths[row]]
            samples.append({"image": image, "text": text})
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
        texts = [sample["text"] for sample in group]
        text, _ = naflex_data.collate_variable_text(
            texts, 0, arguments.text_pad_multiple, context_length
        )
        images = torch.stack([sample["image"] for sample in group])
        bucketed.append({"image": images, "text": to_device(text, stream.device)})
    return bucketed


def _train_data(
    batches: Sequence[Any], windows: WindowTimer, experiment: Experiment
) -> SimpleNamespace:
    """Return the batches in the form of open_clip_train's training data, in a loader that times windows."""
    num_batches = len(batches)
    num_samples = num_batches * experiment.training.batch_size
    loader = _TimedLoader(batches, windows, num_batches, num_samples)
    return SimpleNamespace(set_epoch=lambda _: None, dataloader=loader)


def _model_sizes(experiment: Experiment) -> tuple[int, int, int]:
    """Return image size in pixels, context length in tokens, and number of tokens in the vocabulary."""
    vocabulary = SubwordIds(experiment.targets.subword_vocabulary).size
    return experiment.image.image_size, experiment.text.context_length, vocabulary


def _initial_weights(stream: PackStream[Tokens]) -> Mapping[str, Tensor]:
    model = build_train_run(stream).model
    assert isinstance(model, DualEncoder)
    return to_open_clip_state(model)


def _padded_captions(stream: PackStream[Tokens], num_batches: int) -> list[Tensor]:
    """Return the captions of the first batches, padded to the context."""
    (ids,) = stream.targets.groups
    rows_of_batches = [stream.order.batch_rows(k) for k in range(num_batches)]
    return [to_device(ids[rows], stream.device) for rows in rows_of_batches]
