"""An optimizer and a schedule: SGD with momentum, at a constant rate after the warm-up."""

from bench.experiment.experiments import MethodChangesFromClip
from bench.interfaces.extensions import Extension
from bench.interfaces.optimizer import OptimizerBuilder
from bench.interfaces.schedule import Schedule


class Sgd(OptimizerBuilder):
    """torch's SGD, whose momentum is the first of `betas`."""

    name = "sgd"

    def build(self, model, groups, settings):
        import torch

        optimizer = torch.optim.SGD(
            groups,
            lr=settings.learning_rate,
            momentum=settings.betas[0],
            weight_decay=settings.weight_decay,
            fused=True,  # skips an update that is not finite on the device
        )
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                # torch leaves the momentum without values if it skips the first update
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return optimizer


class Constant(Schedule):
    """A constant rate after the warm-up, for each length of a training from its start."""

    name = "constant"

    def cooldown_learning_rate(self, rate, step, cooldown, warmup, training):
        return rate


EXTENSION = Extension(
    optimizers=[Sgd()],
    schedules=[Constant()],
    experiments={
        "clip-sgd": MethodChangesFromClip(
            "clip", {"optimizer": "sgd", "schedule": "constant", "learning_rate": 0.1}
        )
    },
)
