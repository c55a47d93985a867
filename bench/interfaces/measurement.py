"""A measurement: figures of an experiment that a fresh process measures, as an extension adds them. No torch here."""

import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import msgspec

from bench.console.console import EXTENSION_OPTION, UserError
from bench.experiment.config import choose
from bench.interfaces.registry import Named, NamedRegistry

if TYPE_CHECKING:
    import torch

    from bench.experiment.config import Experiment

Better = Literal["higher", "lower"]


class Figure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A figure that a measurement returns; a ratio to the baseline needs figures above 0."""

    name: str
    unit: str  # "" for a number without one
    better: Better | None = None  # which values are better; None: neither


class Measurement(Named):
    """What is measured of an experiment in each round, by a process of its own that has imported torch.

    A subclass describes it in its attributes, of which `name` is that for `--measurement`. It imports torch
    inside its functions, so that the command line starts without it.
    """

    title: ClassVar[str]  # of its table
    figures: ClassVar[Sequence[Figure]]
    runs_on_all_ranks: ClassVar[bool] = False  # under torchrun all ranks measure; the figures of rank 0 are recorded

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
            yield "its figures must be objects of the class Figure of bench.interfaces.measurement"
        elif len({figure.name for figure in figures}) < len(figures):
            yield "its figures must have different names"
        elif wrong := [figure.name for figure in figures if figure.better not in (None, *get_args(Better))]:
            yield f"of its figure {wrong[0]} higher or lower values must be better, or None"

    def run(self, experiment: "Experiment", device: "torch.device", results: Path) -> dict[str, tuple[float, ...]]:
        """Measure, and return the values in the order of the figures; UserError names what is wrong in one line."""
        try:
            found = self.measure(experiment, device, results)
        except UserError:
            raise
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(place.filename).name}, line {place.lineno}"
            raise UserError(f"the measurement {self.name} fails: {type(error).__name__}: {error} ({where})") from error
        declared = [figure.name for figure in self.figures]
        if not isinstance(found, Mapping) or {*found} != {*declared}:
            returned = (", ".join(map(str, found)) or "nothing") if isinstance(found, Mapping) else repr(found)
            needed = f"return its figures, {', '.join(declared)}"
            raise UserError(f"the measurement {self.name} returns {returned}: {needed}")
        return {name: self._values(name, found[name]) for name in declared}

    def _values(self, name: str, found: Any) -> tuple[float, ...]:
        try:
            several = list(found)
        except TypeError:  # it is one
            several = [found]
        try:
            values = tuple(map(float, several))
        except (TypeError, ValueError):
            values = ()
        if not values or not all(map(isfinite, values)):
            needed = "return a finite number, or several"
            raise UserError(f"the measurement {self.name} returns {found!r} for the figure {name}: {needed}")
        return values


MEASUREMENTS = NamedRegistry("measurement", Measurement)


def get_measurement(name: str) -> Measurement:
    """Return the measurement of a name; ValueError lists the names that there are."""
    if not MEASUREMENTS:
        raise ValueError(f"no measurement named {name!r}: name the extension that adds it with {EXTENSION_OPTION}")
    return choose(name, MEASUREMENTS, MEASUREMENTS.noun)
