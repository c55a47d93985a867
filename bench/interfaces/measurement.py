"""A measurement: figures of an experiment that a fresh process measures, as an extension adds them. No torch here."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from bench.console.console import UserError
from bench.experiment.config import look_up
from bench.interfaces.registry import Named, Registry
from bench.records.record import FigureSpec

if TYPE_CHECKING:
    import torch

    from bench.experiment.config import Experiment


class ExtensionMeasurement(Named):
    """What is measured of an experiment in each round, by a process of its own that has imported torch.

    A subclass describes it in its attributes, of which `name` is that for `--measure-instead`. It imports torch
    inside its functions, so that the command line starts without it.
    """

    title: ClassVar[str]  # of its table
    figures: ClassVar[Sequence[FigureSpec]]
    # With --launch all ranks measure; the figures of rank 0 are recorded.
    runs_on_all_ranks: ClassVar[bool] = False

    @abstractmethod
    def measure(
        self, experiment: "Experiment", device: "torch.device", results: Path
    ) -> Mapping[str, float | Sequence[float]]:
        """Return the value of each figure by its name, or several values, whose median is compared.

        `bench.train.build` builds data, model and step of an experiment; `results` is the folder of the records, with
        the cache of decoded data. Raises UserError of `bench.console.console` with one line for what a user can mend.
        """

    def measure_finite_values(
        self, experiment: "Experiment", device: "torch.device", results: Path
    ) -> dict[str, tuple[float, ...]]:
        """Measure, and return the values in the order of the figures; UserError for others than finite numbers."""
        import numpy as np

        returned = self.measure(experiment, device, results)
        values = dict[str, tuple[float, ...]]()
        for figure in self.figures:
            numbers = np.atleast_1d(np.asarray(returned.get(figure.name, ()), dtype=float))
            if not numbers.size or not np.isfinite(numbers).all():
                raise UserError(
                    f"the measurement {self.name} must return finite numbers for the figure {figure.name}"
                )
            values[figure.name] = tuple(numbers.tolist())
        return values


MEASUREMENTS = Registry[ExtensionMeasurement]("measurement", ExtensionMeasurement)


def get_measurement(name: str) -> ExtensionMeasurement:
    """Return the measurement of a name; ValueError lists the names that there are."""
    return look_up(name, MEASUREMENTS, "measurement (of an extension)")
