"""The size of a comparison: rounds, seeds, budgets and tasks."""

from dataclasses import dataclass

from bench.interfaces.catalog import DEFAULT_TASKS, SINGLE_LABEL, SMOKE_TASKS, TASKS
from bench.statistics.ratios import MIN_PAIRED_ROUNDS, fewest_rounds


@dataclass(frozen=True, slots=True)
class Scope:
    """The size of a comparison."""

    name: str
    rounds: int
    repeats_disturbed_rounds: bool = False  # also run a round for each disturbed one
    seeds: tuple[int, ...] = (0,)
    half_way: bool = True  # also score towers trained on half of the images
    equal_seconds: bool = True  # also score towers trained for equal device seconds
    tasks: tuple[str, ...] = DEFAULT_TASKS
    root: str = ""  # folder of the tasks that lie on disk
    curves: tuple[str, ...] = ("few-shot",)  # protocols over the number of labels, on the first task that has classes

    @property
    def max_repeated_rounds(self) -> int:
        """Return how many rounds may be repeated: at most half as many as there are."""
        return self.rounds // 2 if self.repeats_disturbed_rounds else 0

    @property
    def curve_tasks(self) -> tuple[str, ...]:
        """Return the task of the curves; none where no curve is drawn, or no task has one class per image."""
        return tuple(task for task in self.tasks if self.curves and TASKS[task].labels == SINGLE_LABEL)[:1]


def scopes(num_experiments: int, *, on_gpu: bool) -> dict[str, Scope]:
    """Return the scopes of `python -m bench`, with enough rounds to judge every ratio to the first experiment."""
    rounds = required_rounds(max(1, num_experiments - 1), on_gpu=on_gpu)
    return {
        "default": Scope("default", rounds, repeats_disturbed_rounds=True),
        "full": Scope(
            "full", rounds, repeats_disturbed_rounds=True, seeds=(0, 1, 2), curves=("few-shot", "label-fractions")
        ),
        "smoke": Scope("smoke", 1, half_way=False, equal_seconds=False, tasks=SMOKE_TASKS, curves=()),
    }


def required_rounds(num_ratios: int, *, on_gpu: bool) -> int:
    """Return the fewest rounds that can judge every ratio; interleaved runs need enough for the sign-flip test."""
    return fewest_rounds(num_ratios) if on_gpu else max(MIN_PAIRED_ROUNDS, fewest_rounds(num_ratios))
