"""The size of a comparison: rounds, seeds, budgets and tasks."""

from dataclasses import dataclass

from bench.interfaces.catalog import (
    DEFAULT_TASKS,
    SINGLE_LABEL,
    SMOKE_TASKS,
    TASKS,
    default_protocol_names,
)

MAX_IMAGES = 80_000  # of a training that is planned by time


@dataclass(frozen=True, slots=True)
class ComparisonScope:
    """The size of a comparison."""

    name: str  # "default", "full", "smoke" or "train"
    rounds: int
    images: int | None = None  # of each training; None: those of its experiment
    seeds: tuple[int, ...] = (0,)
    half_way: bool = True  # also score towers trained on half of the images
    equal_seconds: bool = True  # also score towers trained for equal device seconds
    tasks: tuple[str, ...] = DEFAULT_TASKS
    root: str = ""  # folder of the tasks that lie on disk
    # Protocols over the number of labels, on the first task that has classes.
    curves: tuple[str, ...] = ("few-shot",)

    @property
    def protocols_and_tasks(self) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        """Return the protocols and the tasks that are scored by them: whole tasks, and curves over few labels."""
        single_label_tasks = [task for task in self.tasks if TASKS[task].label_kind == SINGLE_LABEL]
        return [
            (default_protocol_names(), self.tasks),
            (self.curves, tuple(single_label_tasks[:1])),
        ]


def make_scopes_by_name(*, on_gpu: bool) -> dict[str, ComparisonScope]:
    """Return the scopes "default", "full" and "smoke" of `python -m bench`."""
    rounds = default_num_rounds(on_gpu=on_gpu)
    full_curves = ("few-shot", "label-fractions")
    return {
        "default": ComparisonScope("default", rounds, MAX_IMAGES),
        "full": ComparisonScope("full", rounds, 320_000, seeds=(0, 1, 2), curves=full_curves),
        "smoke": ComparisonScope(
            "smoke", 1, 2_048, half_way=False, equal_seconds=False, tasks=SMOKE_TASKS, curves=()
        ),
    }


def default_num_rounds(*, on_gpu: bool) -> int:
    """Return the rounds of a comparison: a CPU's cores are shared with other work, so that its runs vary more."""
    return 6 if on_gpu else 10
