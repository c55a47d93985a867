"""How much other work slowed the runs of a comparison: by their windows, by CPU time taken, by a GPU's slowdowns."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from bench.measure.throughput import (
    Run,
    forward_backward_rate,
    images_per_second,
    phase_weights,
    timed_runs,
    window_weights,
)
from bench.records.record import HOST_BUSY, OTHERS_BUSY, Record, Speed
from bench.statistics.disturbance import (
    HALF_RUN_WEIGHT,
    log_slowdown_from_waits,
    log_slowdown_of_runs,
    mean_log_over_rounds,
    weigh_windows,
)
from bench.statistics.ratios import Rounds

USUAL_PERCENT = 5.0  # of the CPU time of a run's cores that others use without disturbing it
HARDLY_DISTURBED, NEARLY_ALL = 0.1, 0.9  # shares of the windows


@dataclass(frozen=True, slots=True)
class Disturbance:
    """How much the runs of a comparison are slowed, by experiment and round."""

    log_slowdown: Mapping[str, Rounds]  # logarithm of the slowdown that is left in a run's figure
    forward_backward_log_slowdown: Mapping[str, Rounds]  # the same of forward and backward alone, which are timed apart
    disturbed_share: float  # of all windows, those that were slow, by the weight that they lost
    throttled_percent: float = 0.0  # of a run, the most in which heat or its hardware slowed a GPU, in every window

    @property
    def is_nearly_all(self) -> bool:
        """Whether hardly a window was left undisturbed."""
        return self.disturbed_share > NEARLY_ALL

    @property
    def log_slowdown_by_round(self) -> dict[int, float]:
        """How much each round is slowed: as the slowest of its runs."""
        slowed = dict[int, float]()
        for rounds in self.log_slowdown.values():
            for round_, log_slowdown in rounds.items():
                slowed[round_] = max(slowed.get(round_, 0.0), log_slowdown)
        return slowed

    @property
    def disturbed_rounds(self) -> set[int]:
        """The rounds that count less than half."""
        return {round_ for round_, log_slowdown in self.log_slowdown_by_round.items() if log_slowdown > HALF_RUN_WEIGHT}


def find_disturbance(records: Iterable[Record], names: Collection[str]) -> Disturbance:
    """Return how much the runs of the named experiments are slowed.

    Where a run's waits for cores were not read, the CPU time that others took counts, if the device is a CPU.
    """
    records, shares = [*records], list[float]()
    log_slowdown, of_phases = (dict[str, dict[int, float]]() for _ in range(2))
    taken = {id(record.measured): _slowdown_by_readings(record) for record in records}
    for name, runs in timed_runs(records, names).items():
        weights = [window_weights(one, speed) for one, speed in runs]
        within = [max(of.log_slowdown, taken[id(speed)]) for of, (_, speed) in zip(weights, runs, strict=True)]
        log_slowdown[name] = _by_round(runs, [images_per_second(*run) for run in runs], within)
        shares += [of.disturbed_share for of in weights]
        split = [
            (run, rate, max(phase_weights(run[1]).log_slowdown, taken[id(run[1])]))
            for run in runs
            if (rate := forward_backward_rate(*run)) is not None
        ]
        of_phases[name] = _by_round(*zip(*split, strict=True)) if split else {}
    of_gpus = (one.measured.throttled_percent for one in records if isinstance(one.measured, Speed))
    return Disturbance(log_slowdown, of_phases, fmean(shares) if shares else 0.0, max(of_gpus, default=0.0))


def _by_round(runs: Sequence[Run], rates: Sequence[float], within: Sequence[float]) -> dict[int, float]:
    slowed = log_slowdown_of_runs(rates, within)
    return {speed.round: slow for (_, speed), slow in zip(runs, slowed, strict=True)}


def _slowdown_by_readings(record: Record) -> float:
    """Return the logarithm by which waits for cores, or what slowed a GPU, slowed a run in each of its windows."""
    speed, where = record.measured, record.circumstances
    if not isinstance(speed, Speed):
        return 0.0
    by_waits = weigh_windows([1.0] * len(speed.window_seconds), speed.window_core_waits).log_slowdown
    if where.device == "cpu" and not speed.window_core_waits:
        others = sum(speed.utilisation.get(name, 0.0) for name in (OTHERS_BUSY, HOST_BUSY))
        by_waits = log_slowdown_from_waits(where.threads * (others - USUAL_PERCENT) / 100)
    return by_waits + math.log1p(speed.throttled_percent / 100)


def describe_disturbance(found: Disturbance) -> str:
    """Say in one or two sentences how much other work slowed the runs, and what that does to the ratios."""
    slowed = found.log_slowdown_by_round
    share, disturbed = f"{100 * found.disturbed_share:.0f} % of the windows", found.disturbed_rounds
    if not any(slowed.values()) and found.disturbed_share < HARDLY_DISTURBED:
        return f"The machine was as good as undisturbed: {share} were slow and count less."
    opening = (
        "Nearly all speeds are those of a busy machine" if found.is_nearly_all else "Other work slowed this machine"
    )
    text = f"{opening}: {share} were slow and count less than undisturbed ones"
    if disturbed:
        text += f"; {len(disturbed)} of {len(slowed)} rounds were slow throughout and count less"
    if found.throttled_percent:
        text += f"; heat or its hardware slowed the GPU in up to {found.throttled_percent:.0f} % of a run"
    if len(slowed) < 2:  # noqa: PLR2004 - one round has no interval
        return f"{text}."
    if not any(slowed.values()):
        return f"{text}. Nothing of it is left in the ratios."
    even = [0.0] * len(slowed)
    left = mean_log_over_rounds(even, [*slowed.values()], even).log_slowdown
    return f"{text}. What is left, {100 * math.expm1(left):.1f} % on average, widens the intervals of the ratios."
