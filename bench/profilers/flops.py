"""Floating-point operations of a step, counted and not estimated."""

from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bench.config import Experiment
from bench.data.targets import Target, Tokens
from bench.methods import method_named
from bench.record import Flops
from models.heads import Contrastive
from models.image_tower import build_image_tower

META = torch.device("meta")


def count_flops(experiment: Experiment, batches: Sequence[Target]) -> Flops:
    """Count the matrix products of a step on the `meta` device, where nothing is computed; the mean over the batches.

    On the CPU, torch's counter sees no attention at all. Batches are as the steps read them, and text is counted at the
    tokens really computed: for every width as if the whole batch had it, then the mean over the captions, for what a
    text tower does is proportional to its captions. Elementwise work is not counted, nor are, where several processes
    share a batch, the products of this one's images with the others' captions.
    """
    method = method_named(experiment.method)
    tower, model, images = on_meta(experiment, experiment.batch_size)
    image = counted(lambda: tower(images))

    def count(target: Target) -> Flops:
        def step() -> None:
            method.loss(model, images, target, None).backward()  # type: ignore[no-untyped-call]

        text = 0
        if isinstance(model, Contrastive) and isinstance(target, Tokens):
            text = counted(lambda: model.text(target.groups, target.lengths, target.places))
        with torch.no_grad():  # a loss may make its gradient in its forward
            forward = counted(lambda: method.loss(model, images, target, None))
        return Flops(image_forward=image, text_forward=text, forward=forward, step=counted(step))

    widths: Counter[int] = Counter()
    for batch in batches:
        widths.update(batch.widths if isinstance(batch, Tokens) else {})
    if not widths:
        return count(batches[0].to(META))
    counts = {width: msgspec.structs.asdict(count(captions_of(experiment.batch_size, width))) for width in widths}
    names = Flops.__struct_fields__
    return Flops(**{name: sum(widths[w] * counts[w][name] for w in widths) // widths.total() for name in names})


def on_meta(experiment: Experiment, batch_size: int) -> tuple[nn.Module, nn.Module, torch.Tensor]:
    """Return the image tower, the model around it, and images, on the `meta` device."""
    with META:
        tower = build_image_tower(experiment.tower, experiment.image_size, experiment.seed)
        images = torch.empty(batch_size, 3, experiment.image_size, experiment.image_size)
        return tower, method_named(experiment.method).wrap(tower, experiment), images


def captions_of(count: int, width: int) -> Tokens:
    """Return a batch whose captions are all computed at one width."""
    with META:
        ids, row = torch.zeros(count, width, dtype=torch.int64), torch.zeros(count, dtype=torch.int64)
    return Tokens((ids,), row, row, "full")


def counted(work: Callable[[], object]) -> int:
    """Return the FLOPs of the matrix products that something does, two for each multiply-add."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())
