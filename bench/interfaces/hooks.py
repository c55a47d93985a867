"""Hooks: functions that features offer by name, so that other parts can use a feature that may not be here. No torch.

- `communication_range(experiments, numbers of GPUs, GPU's name)`: the least and the largest factor of communication
  that are predicted for the ratio of their GPU-seconds.
- `count_labels(files of captions, rule's name, choice of captions)`: the `Vocabulary`, counted on all cores.
- `most_images_per_second(experiment, GPU, results)`: the most that this GPU is predicted to take.
- `ratio_parts(records of a comparison)`: `RatioParts` of two experiments; None if only their ratio was measured.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.interfaces.registry import Registry, import_object

if TYPE_CHECKING:
    from bench.statistics.intervals import Interval

HOOKS = Registry[str]("hook")  # where each function lies, as "package.module:function"


def find_hook(name: str) -> Callable[..., Any] | None:
    """Return the function of a hook; None if no feature offers it."""
    return import_object(HOOKS[name]) if name in HOOKS else None


class RatioPart(NamedTuple):
    """A cause of a ratio; a part `of_method` is the method itself."""

    cause: str
    log_ratio: "Interval"
    of_method: bool


@dataclass(frozen=True, slots=True)
class RatioParts:
    """The parts of the ratio of images/s of two experiments, over whole steps; intervals are of logarithms."""

    baseline: str  # name of the experiment
    experiment: str
    whole: "Interval | None"  # None: they were not timed alone
    parts: Sequence[RatioPart]
    method: "Interval | None"  # the methods alone, all else as at the end; None: the parts before it are none
    repetitions: str  # in words
