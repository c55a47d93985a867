"""FLOPs and communicated parameters of a method's model, counted on the `meta` device."""

from dataclasses import dataclass

from msgspec.structs import replace

from bench.config import Experiment
from bench.measure.costs import build_on_meta, count_costs
from bench.plan.collectives import ParameterCounts
from bench.plan.model import FlopsPerImage
from bench.train.distributed import transformer_blocks
from models.heads import DualEncoder, TokenCounts
from models.image_tower import ImageTower
from models.text_tower import TextTower


@dataclass(frozen=True, slots=True)
class Workload:
    """The workload of one experiment."""

    weights: ParameterCounts
    work: FlopsPerImage


def count_workload(experiment: Experiment) -> Workload:
    """Count parameters and FLOPs of an experiment, with captions as long as the context."""
    costs = count_costs(experiment)
    _, model = build_on_meta(replace(experiment, image_sizes=()))
    towers = [module for module in model.modules() if isinstance(module, ImageTower | TextTower)]
    blocks = [block for tower in towers for block in transformer_blocks(tower)]
    trained_blocks = [block for block in blocks if all(one.requires_grad for one in block.parameters())]
    counts = [module for module in model.modules() if isinstance(module, TokenCounts)]
    parameters = list(model.parameters())
    layers = [one for name, one in model.named_parameters() if name.split(".")[0] in ("head", "projection")]
    last_layer_flops = 2 * sum(one.numel() for one in layers if one.ndim == 2)  # noqa: PLR2004
    return Workload(
        ParameterCounts(
            method=experiment.method,
            trained=costs.parameters,
            frozen=sum(one.numel() for one in parameters if not one.requires_grad),
            in_blocks=sum(one.numel() for block in trained_blocks for one in block.parameters()),
            blocks=len(trained_blocks),
            frozen_blocks=len(blocks) - len(trained_blocks),
            scalars=sum(one.ndim == 0 for one in parameters),
            feature_width=model.text.width if isinstance(model, DualEncoder) else 0,
            counted_tokens=sum(len(one.images_with_token) for one in counts),
        ),
        FlopsPerImage(
            forward=float(costs.image_flops + costs.text_flops + last_layer_flops),
            teacher=float(costs.teacher_flops),
            is_recomputed=experiment.activation_checkpointing,
        ),
    )
