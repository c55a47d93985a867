"""A measurement: figures of an experiment that a fresh process measures, as an extension adds them. No torch here."""

import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, get_args

from bench.console.console import EXTENSION_OPTION, UserError
from bench.experiment.config import choose
from bench.interfaces.registry import Named, Registry
from bench.records.record import Better, Figure

if TYPE_CHECKING:
    import torch

    from bench.experiment.config import Experiment


class Measurement(Named):
    """What is measured of an experiment in each round, by a process of its own that has imported torch.

    A subclass describes it in its attributes, of which `name` is that for `--measurement`. It imports torch
    inside its functions, so that the command line starts without it.
    """

    title: ClassVar[str]  # of its table
    figures: ClassVar[Sequence[Figure]]
    runs_on_all_ranks: ClassVar[bool] = (
        False  # with --launch all ranks measure; the figures of rank 0 are recorded
    )

    def measure(
        self, experiment: "Experiment", device: "torch.device", results: Path
    ) -> Mapping[str, float | Sequence[float]]:
        """Return the value of each figure by its name, or several values, whose median is compared.

        `bench.train.build` builds data, model and step of an experiment; `results` is the folder of the records, with
        the cache of decoded data. Raises UserError of `bench.console.console` with one line for what a user can mend.
        """
        raise NotImplementedError

    def flaws(self) -> Iterator[str]:
        """Yield the reasons why the measurement cannot be used."""
        if not re.fullmatch("[a-z][a-z0-9-]*", str(getattr(self, "name", ""))):
            yield "its name must be small letters, digits and hyphens"
        if not isinstance(getattr(self, "title", None), str):
            yield "its title must be a text"
        figures = [*getattr(self, "figures", ())]
        if not figures or not all(isinstance(figure, Figure) for figure in figures):
            yield "its figures must be objects of the class Figure of bench.records.record"
        elif len({figure.name for figure in figures}) < len(figures):
            yield "its figures must have different names"
        for figure in figures:
            if isinstance(figure, Figure) and figure.better not in (None, *get_args(Better)):
                yield f"of its figure {figure.name} higher or lower values must be better, or None"

    def run(
        self, experiment: "Experiment", device: "torch.device", results: Path
    ) -> dict[str, tuple[float, ...]]:
        """Measure, and return the values in the order of the figures; UserError names what is wrong in one line."""
        try:
            returned = self.measure(experiment, device, results)
        except UserError:
            raise
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(frame.filename).name}, line {frame.lineno}"
            raise UserError(
                f"the measurement {self.name} fails: {type(error).__name__}: {error} ({where})"
            ) from error
        declared = [figure.name for figure in self.figures]
        if not isinstance(returned, Mapping) or {*returned} != {*declared}:
            names = (
                (", ".join(map(str, returned)) or "nothing")
                if isinstance(returned, Mapping)
                else repr(returned)
            )
            needed = f"return its figures, {', '.join(declared)}"
            raise UserError(f"the measurement {self.name} returns {names}: {needed}")
        return {name: self._to_values(name, returned[name]) for name in declared}

    def _to_values(self, name: str, returned: Any) -> tuple[float, ...]:
        """Return the values of a figure, of which a measurement returns one or several."""
        try:
            members = list(returned)
        except TypeError:  # a single value
            members = [returned]
        try:
            values = tuple(map(float, members))
        except (TypeError, ValueError):
            values = ()
        if not values or not all(map(isfinite, values)):
            needed = "return a finite number, or several"
            raise UserError(
                f"the measurement {self.name} returns {returned!r} for the figure {name}: {needed}"
            )
        return values


MEASUREMENTS = Registry[Measurement]("measurement", Measurement)


def get_measurement(name: str) -> Measurement:
    """Return the measurement of a name; ValueError lists the names that there are."""
    if not MEASUREMENTS:
        raise ValueError(
            f"no measurement named {name!r}: name the extension that adds it with {EXTENSION_OPTION}"
        )
    return choose(name, MEASUREMENTS, MEASUREMENTS.noun)
