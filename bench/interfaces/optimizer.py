"""An optimizer by its name, and the groups of parameters that it is given. No torch here."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bench.experiment.fields import OptimizerSettings
from bench.interfaces.registry import Named, Registry

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

# As torch's optimizers take them: "params", and values that replace the optimizer's own, such as "weight_decay". The
# rate of a group is that of the schedule times its "lr_scale" (default 1).
ParameterGroup = dict[str, Any]


class OptimizerBuilder(Named):
    """Builds the optimizer of a training, which an experiment names in its field `optimizer`.

    A step whose loss or gradient is not finite does not call the optimizer. The host reads that from the device in
    every step, unless the optimizer has the attribute `_step_supports_amp_scaling` and skips an update on the device by
    its attribute `found_inf`, as torch's fused optimizers do for `GradScaler`.

    A checkpoint holds the tensors and numbers in the optimizer's `state[parameter]`, and the number "step" of its
    groups. With `sharding=fsdp2`, parameters are DTensors.
    """

    name: str

    @abstractmethod
    def build(
        self, model: "nn.Module", groups: list[ParameterGroup], settings: OptimizerSettings
    ) -> "Optimizer":
        """Return the optimizer of a model; ValueError for a model that it cannot update.

        The groups have every trained parameter once; sharded parameters and others are in different groups.
        """


OPTIMIZERS = Registry[OptimizerBuilder](
    "optimizer", OptimizerBuilder, "bench.train.optimizers:OPTIMIZERS"
)


def weight_decay_groups(parameters: Iterable["nn.Parameter"]) -> list[ParameterGroup]:
    """Return groups of the trained parameters: matrices, and vectors and scalars with a weight decay of 0.

    Biases, norms, class embedding, scale and bias of the logits have fewer than two dimensions: open_clip_train's rule.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.ndim >= 2]  # noqa: PLR2004
    vectors = [parameter for parameter in trained if parameter.ndim < 2]  # noqa: PLR2004
    return [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
