"""The learning rate over a training, by the name of its schedule. No torch here."""

from abc import abstractmethod

from bench.experiment.fields import TrainingSettings
from bench.interfaces.registry import Named, Registry


class Schedule(Named):
    """The learning rate over the steps of a training, which an experiment names in its field `schedule`.

    On the trunk, the rate rises linearly in the warm-up and is then constant; trainings of several lengths share it.
    The last part of each length is its cool-down.
    """

    name: str

    def cooldown_share(self, training: TrainingSettings) -> float:
        """Return the fraction (above 0, up to 1) of a training's steps in the cool-down.

        At 1, the default, there is no trunk: every length is trained from the start.
        """
        return 1.0

    @abstractmethod
    def cooldown_learning_rate(
        self,
        trunk_rate: float,
        step: int,
        cooldown_steps: range,
        num_warmup_steps: int,
        training: TrainingSettings,
    ) -> float:
        """Return the learning rate of a step in a cool-down.

        `trunk_rate` is what the step would have on the trunk. `step` counts from the start of the training, as do
        `cooldown_steps`. `num_warmup_steps` is 1 or more.
        """


SCHEDULES = Registry[Schedule]("schedule", Schedule, "bench.train.schedules:SCHEDULES")
