"""What an experiment costs by count alone: parameters, and FLOPs of an image and its caption."""

from dataclasses import dataclass

from torch import nn

from bench.config import Experiment
from bench.profilers.flops import captions_of, counted, images_of, on_meta
from models.heads import Contrastive


@dataclass(frozen=True, slots=True)
class Costs:
    """Parameters, and FLOPs of one forward of an image, and of a caption that fills its context.

    A multiply-add is two. Images of several sizes: the mean over those that training sees, of which most are small.
    """

    parameters: int  # trained
    tower_parameters: int  # of the image tower, which is kept
    image_flops: int
    text_flops: int  # 0 where no text is computed

    @property
    def text_share(self) -> float:
        """Share of the two towers' forward that the text tower takes."""
        return self.text_flops / (self.text_flops + self.image_flops)


def costs_of(experiment: Experiment) -> Costs:
    """Count on the `meta` device: no weight is drawn, no data read."""
    tower, model = on_meta(experiment)
    caption = captions_of(1, experiment.context_length)
    text = 0
    if isinstance(model, Contrastive):
        text = counted(lambda: model.text(caption.groups, caption.lengths, caption.places))
    return Costs(
        parameters=_size(model),
        tower_parameters=_size(tower),
        image_flops=_image_flops(experiment, tower),
        text_flops=text,
    )


def _image_flops(experiment: Experiment, tower: nn.Module) -> int:
    def flops(side: int) -> int:
        image = images_of(1, side)
        return counted(lambda: tower(image))

    batches = {side: experiment.batch_size_at(side) for side in experiment.sides}
    return sum(batch * flops(side) for side, batch in batches.items()) // sum(batches.values())


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
