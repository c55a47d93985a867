"""Runs beside other people's code: the same weights, batches and learning rates in their loop and in ours."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from open_clip.loss import ClipLoss
from torch import Tensor

from bench.config import PACK_DATA, Experiment
from bench.data.long_captions import lengthened
from bench.data.manifest import CACHE
from bench.data.pack import load_pictures
from bench.data.pack_stream import PackStream
from bench.data.stream import Batch
from bench.data.targets import Captions, Labels, Tokens, WithoutText, to_device
from bench.environment.machine import resolved
from bench.environment.slots import pass_on
from bench.labels.subwords import SubwordIds
from bench.methods import METHODS, Method
from bench.record import PeerRun
from bench.reference.sides import DENSE, OPEN_CLIP, OPEN_CLIP_FUSED, WARMUP_STEPS
from bench.train.build import Assembled, assemble, load_data
from bench.train.step import make_optimizer, make_step
from losses.collectives import Meeting
from models.heads import Contrastive
from models.open_clip_layout import open_clip_model, open_clip_state

RATE_RISES = 2_000  # steps, linearly; open_clip_train's default is 10,000


@dataclass(slots=True)
class Windows:
    """The times at which windows begin and end, the device idle; between them another run may have its turn."""

    device: torch.device
    steps: int  # of a window
    begun: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)

    def at(self, step: int) -> None:
        """Take the time where a window ends before this step, or the warm-up does."""
        if step >= WARMUP_STEPS and (step - WARMUP_STEPS) % self.steps == 0:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            self.ended.append(time.perf_counter())
            pass_on()
            self.begun.append(time.perf_counter())

    @property
    def seconds(self) -> tuple[float, ...]:
        """How long each window took."""
        return tuple(end - start for start, end in zip(self.begun, self.ended[1:], strict=False))


def run_side(experiment: Experiment, device: torch.device, results: Path, side: str, round_: int) -> PeerRun:
    """Take the experiment's warm-up and windows on one side of a comparison with other people's code."""
    windows, steps = Windows(device, experiment.steps_per_window), _steps(experiment)
    if experiment.method == "clip":
        stream = _long_captions(experiment, device, results)
        batches = [stream.batch(k) for k in range(steps)]
        theirs = side in (OPEN_CLIP, OPEN_CLIP_FUSED)
        tokens = float(experiment.context_length)
        if theirs:
            losses = _open_clip(stream, batches, windows, fused=side == OPEN_CLIP_FUSED)
        else:
            losses = _ours(assemble(stream), batches, windows)
            tokens = sum(batch.target.tokens_per_caption for batch in batches) / steps
        handed = None
    else:
        run, tokens = assemble(load_data(experiment, device, results)), None
        losses, handed = _dense(run, windows) if side == DENSE else _index_lists(run, windows)
    return PeerRun(
        side=side,
        round=round_,
        window_seconds=windows.seconds,
        losses=tuple(torch.stack(losses).tolist()),
        tokens_per_caption=tokens,
        target_bytes_per_image=handed,
    )


def _steps(experiment: Experiment) -> int:
    return WARMUP_STEPS + experiment.windows * experiment.steps_per_window


def _rate(experiment: Experiment, step: int) -> float:
    return experiment.learning_rate * (step + 1) / RATE_RISES


# CLIP


def _long_captions(experiment: Experiment, device: torch.device, results: Path) -> PackStream[Tokens]:
    """Return the pack's pictures with captions as long as the web's; ValueError for other data."""
    if experiment.data != PACK_DATA:
        raise ValueError(f"{experiment.name}: this race is on the pack's pictures, data is {experiment.data!r}")
    subwords = SubwordIds(experiment.subword_vocabulary)
    (start, end), context, padding = subwords.start_and_end, experiment.context_length, experiment.text_padding

    def targets(captions: Captions) -> Tokens:
        return Tokens.of(lengthened(subwords.encode(captions.texts), experiment.seed), start, end, context, padding)

    return PackStream(experiment, load_pictures("pretrain", results / CACHE), targets, device)


def _ours(run: Assembled, batches: Sequence[Batch[Tokens]], windows: Windows) -> list[Tensor]:
    """Take our steps; captions are cut and sorted inside the clock."""
    losses, stream = list[Tensor](), run.stream
    for k, batch in enumerate(batches):
        windows.at(k)
        target = stream.target(k).to(stream.device)
        losses.append(run.step(Batch(batch.images, target), _rate(stream.experiment, k)))
    windows.at(len(batches))
    return losses


def _open_clip(
    stream: PackStream[Tokens], batches: Sequence[Batch[Tokens]], windows: Windows, *, fused: bool
) -> list[Tensor]:
    """Take open_clip_train's steps from our weights: its loop, its model, its loss, its optimizer, whole captions.

    Source: open_clip_torch 3.3.0, `open_clip_train/train.py` and the optimizer of `main.py`.
    """
    from open_clip_train.scheduler import const_lr
    from open_clip_train.train import train_one_epoch

    experiment, device, run = stream.experiment, stream.device, assemble(stream)
    vocabulary_size = SubwordIds(experiment.subword_vocabulary).size
    sizes = (experiment.image_size, experiment.context_length, vocabulary_size)
    model = open_clip_model(experiment.tower, *sizes, bias=False).to(device)
    assert isinstance(run.model, Contrastive)
    model.load_state_dict(open_clip_state(run.model))
    optimizer: torch.optim.Optimizer = make_optimizer(experiment, model)
    if not fused:
        groups = [{name: group[name] for name in ("params", "weight_decay")} for group in optimizer.param_groups]
        optimizer = torch.optim.AdamW(groups, lr=experiment.learning_rate, betas=experiment.betas, eps=experiment.eps)
    (ids,) = stream.targets.groups
    texts = [to_device(ids[stream.order.rows(k)], device) for k in range(len(batches))]
    loader = _Loader([batch.images for batch in batches], texts, windows)
    loss = _RecordedLoss()
    arguments = SimpleNamespace(
        device=str(device),
        precision="amp_bf16" if resolved(experiment, device)[0] == "bf16" else "fp32",
        grad_clip_norm=experiment.clip_norm,
        **dict.fromkeys(("distill", "horovod", "skip_scheduler", "wandb"), False),
        **dict.fromkeys(("accum_freq", "world_size"), 1),
        **dict.fromkeys(("rank", "local_rank"), 0),
        batch_size=experiment.batch_size,
        log_every_n_steps=100,
    )
    scheduler = const_lr(optimizer, experiment.learning_rate, RATE_RISES, RATE_RISES)
    data = {"train": SimpleNamespace(set_epoch=lambda _: None, dataloader=loader)}
    train_one_epoch(model, data, loss, 0, optimizer, None, scheduler, None, arguments)
    return loss.losses


@dataclass(slots=True)
class _Loader:
    """What open_clip_train's loop goes through; a window ends where it asks for the next batch."""

    images: Sequence[Tensor]
    texts: Sequence[Tensor]
    windows: Windows

    @property
    def num_batches(self) -> int:
        return len(self.images)

    @property
    def num_samples(self) -> int:
        return sum(map(len, self.images))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for k, batch in enumerate(zip(self.images, self.texts, strict=True)):
            self.windows.at(k)
            yield batch
        self.windows.at(len(self.images))


class _RecordedLoss(ClipLoss):  # type: ignore[misc]
    """open_clip's loss, which also keeps what it found."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[Tensor] = []

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        found = super().forward(*args, **kwargs)
        self.losses.append(found["contrastive_loss"].detach())
        return found


# CatLIP


def _index_lists(run: Assembled, windows: Windows) -> tuple[list[Tensor], float]:
    """Take our steps."""
    losses, handed, stream = list[Tensor](), 0, run.stream
    steps = _steps(stream.experiment)
    for k in range(steps):
        windows.at(k)
        batch = stream.batch(k)
        handed += batch.target.rows.nbytes + batch.target.columns.nbytes
        losses.append(run.step(batch, _rate(stream.experiment, k)))
    windows.at(steps)
    return losses, handed / (steps * stream.experiment.batch_size)


@dataclass(frozen=True, slots=True)
class MultiHot(WithoutText):
    """A row of 0 and 1 over all labels for each caption."""

    matrix: Int[Tensor, "captions labels"]

    def take(self, rows: Int[Tensor, " batch"]) -> "MultiHot":
        """Return a batch."""
        return MultiHot(self.matrix[rows])

    def to(self, device: torch.device) -> "MultiHot":
        """Move to a device without waiting for it."""
        return MultiHot(to_device(self.matrix, device))


def _dense(run: Assembled, windows: Windows) -> tuple[list[Tensor], float]:
    """Take steps whose targets are dense: a multi-hot row of int64 a sample, stacked, handed over, cast in the loss.

    Source: apple/corenet, `wordnet_tagged_classification.py` and `binary_cross_entropy.py`. Optimizer and all else are
    ours.
    """
    losses, handed, stream = list[Tensor](), 0, run.stream
    experiment, labels = stream.experiment, int(run.model.head.out_features)  # type: ignore[union-attr, arg-type]
    method: Method[Any] = Method(METHODS["catlip"].wrap, METHODS["catlip"].targets, _dense_loss)
    precision, compiled = resolved(experiment, stream.device)
    step = make_step(experiment, run.model, method, precision, compiled=compiled)
    steps = _steps(experiment)
    for k in range(steps):
        windows.at(k)
        images = stream.batch(k).images
        target = MultiHot(multi_hot(stream.target(k), labels))
        handed += target.matrix.nbytes
        losses.append(step(Batch(images, target.to(stream.device)), _rate(experiment, k)))
    windows.at(steps)
    return losses, handed / (steps * experiment.batch_size)


def multi_hot(labels: Labels, num_labels: int) -> Int[Tensor, "batch labels"]:
    """Return one row a caption, 1 at its labels: made one by one and stacked, as a data loader collates them."""
    rows = []
    for first, last in zip(labels.starts[:-1].tolist(), labels.starts[1:].tolist(), strict=True):
        row = torch.zeros(num_labels, dtype=torch.int64)
        row[labels.columns[first:last]] = 1
        rows.append(row)
    return torch.stack(rows)


def _dense_loss(model: torch.nn.Module, images: Tensor, target: MultiHot, _group: Meeting) -> Float[Tensor, ""]:
    logits = model(images)
    dense = target.matrix.to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, dense, reduction="sum") / len(images)
