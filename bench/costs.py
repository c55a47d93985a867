"""What an experiment costs by count alone: parameters, and FLOPs of an image and its caption."""

from dataclasses import dataclass

from torch import nn

from bench.config import Experiment
from bench.profilers.flops import captions_of, counted, on_meta
from bench.run import trained_parameters
from models.heads import Contrastive, Student


@dataclass(frozen=True, slots=True)
class Costs:
    """Parameters, and FLOPs of one forward of an image, and of a caption that fills its context.

    A multiply-add is two.
    """

    parameters: int  # trained
    tower_parameters: int  # of the image tower, which is kept
    image_flops: int
    text_flops: int  # 0 where no text is computed
    teacher_flops: int  # of its forward, which is not followed by a backward; 0 where there is none

    @property
    def text_share(self) -> float:
        """Share of the two towers' forward that the text tower takes."""
        return self.text_flops / (self.text_flops + self.image_flops)


def costs_of(experiment: Experiment) -> Costs:
    """Count on the `meta` device: no weight is drawn, no data read."""
    tower, model, image = on_meta(experiment, 1)
    caption = captions_of(1, experiment.context_length)
    text = teacher = 0
    if isinstance(model, Contrastive):
        text = counted(lambda: model.text(caption.groups, caption.lengths, caption.places))
    if isinstance(model, Student):
        teacher = counted(lambda: model(image)) - counted(lambda: model.projection(tower(image)))
    return Costs(
        parameters=trained_parameters(model),
        tower_parameters=_size(tower),
        image_flops=counted(lambda: tower(image)),
        text_flops=text,
        teacher_flops=teacher,
    )


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
