"""Simulated comparisons on disturbed machines: `python -m tests.simulated_machines` prints how the rules do.

Four equally fast experiments are interleaved window by window. The machine has two speeds and switches between them at
random, drifts, or slows the experiments unequally; no counter shows it. The true ratio is 1, so that an interval
without 1 is wrong.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import numpy.typing as npt

from bench.statistics import Ratio, Windows, find_disturbed_rounds, mark_if_disturbed, ratios_of

ROUNDS, WINDOWS = 10, 5  # as of the default comparison, as are the seconds below
NAMES = ("a", "b", "c", "d")
WINDOW_SECONDS, BETWEEN_ROUNDS_SECONDS, TICK_SECONDS = 0.4, 20.0, 0.1


@dataclass(frozen=True, slots=True)
class Machine:
    """Standard deviations of logarithms, and how the machine is disturbed."""

    shared_spread: float = 0.04  # of a round
    run_spread: float = 0.02
    window_spread: float = 0.04
    slowdown: float = 1.0  # of the slow speed
    dwell_seconds: float = 20.0  # mean time at a speed
    slow_share: float = 0.5  # of the time
    inequality: float = 0.0  # share of the slowdown's logarithm that the last experiment is spared; 0: all are equal
    drift: float = 0.0  # relative rise of all times from the first round to the last planned one


MACHINES = {
    "quiet": Machine(),
    "quiet, run-to-run spread 8 %": Machine(shared_spread=0.07, run_spread=0.04, window_spread=0.08),
    "drifts by 30 %": Machine(drift=0.3),
    "drifts by 100 %": Machine(drift=1.0),
    **{
        f"two speeds, {slowdown:.0%} apart, {dwell} s at each": Machine(slowdown=1 + slowdown, dwell_seconds=dwell)
        for slowdown in (0.3, 1.0, 4.0)
        for dwell in (2, 20, 200)
    },
    "twice as slow for 10 % of the time": Machine(slowdown=2.0, slow_share=0.1),
    **{
        f"unequal, up to {slowdown:.0%}, {dwell} s at each speed": Machine(
            slowdown=1 + slowdown, dwell_seconds=dwell, inequality=0.6
        )
        for slowdown in (0.3, 1.0, 4.0)
        for dwell in (2, 20, 200)
    },
}


class SimulatedRounds:
    """The rounds of one comparison on a machine."""

    def __init__(self, machine: Machine, seed: int) -> None:
        self._machine = machine
        self._random = np.random.default_rng(seed)
        self._seconds = 0.0
        self._slow = self._switching_times()

    def _switching_times(self) -> npt.NDArray[np.bool_]:
        """Return whether the machine is slow, by the tick, for longer than any comparison takes."""
        one, random = self._machine, self._random
        ticks = round(4 * ROUNDS * (BETWEEN_ROUNDS_SECONDS + len(NAMES) * WINDOWS * WINDOW_SECONDS) / TICK_SECONDS)
        if one.slowdown == 1:
            return np.zeros(ticks, bool)
        slow, is_slow, first = np.empty(ticks, bool), random.random() < one.slow_share, 0
        while first < ticks:
            mean = 2 * one.dwell_seconds * (one.slow_share if is_slow else 1 - one.slow_share)
            last = first + 1 + round(random.exponential(mean) / TICK_SECONDS)
            slow[first:last] = is_slow
            first, is_slow = last, not is_slow
        return slow

    def measure(self, round_: int) -> dict[str, list[float]]:
        """Return the speed of each window of a round, by experiment."""
        one, random = self._machine, self._random
        luck = random.normal(0, one.shared_spread) + random.normal(0, one.run_spread, len(NAMES))
        order = [*range(len(NAMES))]
        order = [*order[round_ % 4 :], *order[: round_ % 4]][:: -1 if round_ % 2 else 1]
        self._seconds += BETWEEN_ROUNDS_SECONDS
        rates: dict[str, list[float]] = {name: [] for name in NAMES}
        for _ in range(WINDOWS):
            for which in order:
                work = WINDOW_SECONDS * math.exp(luck[which] + random.normal(0, one.window_spread))
                slowdown = one.slowdown ** (1 - one.inequality * which / (len(NAMES) - 1))
                rates[NAMES[which]].append(1 / self._take(work * (1 + one.drift * round_ / (ROUNDS - 1)), slowdown))
        return rates

    def _take(self, work: float, slowdown: float) -> float:
        """Return the seconds that so much work takes from now on."""
        start = self._seconds
        while work > 1e-9:
            tick = int(self._seconds / TICK_SECONDS + 1e-9)
            factor = slowdown if self._slow[min(tick, len(self._slow) - 1)] else 1.0
            step = min((tick + 1) * TICK_SECONDS - self._seconds, work * factor)
            self._seconds += step
            work -= step / factor
        return self._seconds - start


def compare(machine: Machine, seed: int) -> tuple[dict[str, Ratio], dict[str, Ratio], int]:
    """Return the ratios to the first experiment with and without the rules, and the number of rounds."""
    machine_rounds, windows = SimulatedRounds(machine, seed), {name: dict[int, list[float]]() for name in NAMES}
    disturbance, round_ = find_disturbed_rounds({}, {}), 0
    while round_ < min(ROUNDS + len(disturbance.disturbed_rounds), ROUNDS + ROUNDS // 2):
        for name, rates in machine_rounds.measure(round_).items():
            windows[name][round_] = rates
        round_ += 1
        disturbance = find_disturbed_rounds(windows, dict.fromkeys(range(round_), 0.0))
    plain = ratios_of_windows({name: {k: runs[k] for k in range(ROUNDS)} for name, runs in windows.items()})
    excluded = disturbance.excluded_rounds
    kept = {name: {k: run for k, run in runs.items() if k not in excluded} for name, runs in windows.items()}
    ruled = {
        name: mark_if_disturbed(ratio, disturbance, kept[NAMES[0]], kept[name])
        for name, ratio in ratios_of_windows(kept).items()
    }
    return plain, ruled, round_


def ratios_of_windows(windows: Mapping[str, Windows]) -> dict[str, Ratio]:
    """Compare the medians of the windows, as a comparison does."""
    rates = {name: {round_: median(run) for round_, run in runs.items()} for name, runs in windows.items()}
    return ratios_of(rates[NAMES[0]], {name: rates[name] for name in NAMES[1:]})


def coverage(machine: Machine, comparisons: int) -> dict[str, float]:
    """Return shares of simulated ratios: with 1 in their interval, without and with the rules, and not judged."""
    plain, ruled, rounds = list[Ratio](), list[Ratio](), 0
    for seed in range(comparisons):
        one, other, taken = compare(machine, seed)
        plain += one.values()
        ruled += other.values()
        rounds += taken
    disturbed = [ratio.verdict == "disturbed" for ratio in ruled]
    return {
        "without rules": float(np.mean(covers(plain))),
        "covers, or disturbed": float(np.mean(np.array(covers(ruled)) | disturbed)),
        "disturbed": float(np.mean(disturbed)),
        "rounds": rounds / comparisons,
    }


def covers(ratios: Sequence[Ratio]) -> list[bool]:
    """Return which intervals contain 1."""
    return [ratio.low is not None and ratio.high is not None and ratio.low <= 1 <= ratio.high for ratio in ratios]


def main() -> None:
    """Print a row for each machine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=400, help="per machine (400)")
    comparisons = parser.parse_args().comparisons
    for name, machine in MACHINES.items():
        row = " | ".join(f"{value:.3g}" for value in coverage(machine, comparisons).values())
        print(f"| {name} | {row} |", flush=True)


if __name__ == "__main__":
    main()
