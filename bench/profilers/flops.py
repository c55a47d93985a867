"""Floating-point operations of a step, counted and not estimated."""

from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
import torch
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

    On the CPU, torch's counter sees no attention at all. Batches are as the steps read them, so that text is counted at
    the tokens really computed. Elementwise work is not counted.
    """
    method = method_named(experiment.method)
    with META:
        tower = build_image_tower(experiment.tower, experiment.image_size, experiment.seed)
        model = method.wrap(tower, experiment)
        images = torch.empty(experiment.batch_size, 3, experiment.image_size, experiment.image_size)

    def count(target: Target) -> Flops:
        def step() -> None:
            method.loss(model, images, target).backward()  # type: ignore[no-untyped-call]

        text = 0
        if isinstance(model, Contrastive) and isinstance(target, Tokens):
            text = counted(lambda: model.text(target.ids, target.lengths))
        return Flops(
            image_forward=counted(lambda: tower(images)),
            text_forward=text,
            forward=counted(lambda: method.loss(model, images, target)),
            step=counted(step),
        )

    shapes = Counter(batch.tokens_per_caption for batch in batches)
    by_shape = {batch.tokens_per_caption: batch for batch in batches}
    counts = {shape: msgspec.structs.asdict(count(by_shape[shape].to(META))) for shape in shapes}
    total = shapes.total()
    names = Flops.__struct_fields__
    return Flops(**{name: sum(shapes[s] * counts[s][name] for s in shapes) // total for name in names})


def counted(work: Callable[[], object]) -> int:
    """Return the FLOPs of the matrix products that something does, two for each multiply-add."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())
