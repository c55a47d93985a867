"""Simulated comparisons on disturbed machines: `python -m tests.simulated_machines` prints how the intervals do.

Four equally fast experiments are interleaved window by window, while other work slows the machine: at random times,
always, or one experiment more than the others. The true ratio is 1, so that an interval without 1 is wrong.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import numpy.typing as npt

from bench.statistics.disturbance import log_slowdown_of_runs, weigh_windows
from bench.statistics.ratios import Ratio, ratios_of

ROUNDS, WINDOWS = 10, 20  # as of the default comparison, as are the seconds below
NAMES = ("a", "b", "c", "d")
WINDOW_SECONDS, BETWEEN_ROUNDS_SECONDS, TICK_SECONDS = 0.1, 15.0, 0.01
ALWAYS = math.inf


@dataclass(frozen=True, slots=True)
class Machine:
    """Standard deviations of logarithms, and how other work slows the machine."""

    shared_spread: float = 0.04  # of a round
    run_spread: float = 0.02
    window_spread: float = 0.04
    slowdown: float = 1.0  # while there is other work
    dwell_seconds: float = 20.0  # mean time with other work, or without where both have equal shares
    busy_share: float = 0.5  # of the time
    inequality: float = 0.0  # share of the slowdown's logarithm that the last experiment is spared; 0: all are equal
    only_last: bool = False  # whether the last experiment alone is slowed
    has_counters: bool = True  # whether the threads' waits for cores are read
    drift: float = 0.0  # relative rise of all times from the first round to the last


def _by_time(name: str, dwells: Sequence[float], slowdowns: Sequence[float], **fields: float) -> dict[str, Machine]:
    return {
        f"{name} {slowdown:g} times, {dwell:g} s": Machine(slowdown=slowdown, dwell_seconds=dwell, **fields)
        for slowdown in slowdowns
        for dwell in dwells
    }


MACHINES = {
    "quiet": Machine(),
    "quiet, spread 8 %": Machine(shared_spread=0.07, run_spread=0.04, window_spread=0.08),
    "drifts by 30 %": Machine(drift=0.3),
    "drifts by 100 %": Machine(drift=1.0),
    **_by_time("two speeds,", (2, 20, 200), (1.3, 2, 5)),
    **_by_time("bursts 30 % of the time,", (1, 10), (2.5,), busy_share=0.3),
    **_by_time("bursts 70 % of the time,", (1, 10), (2.5,), busy_share=0.7),
    **_by_time("a tenth unequal,", (2, 20, 200), (1.3, 2, 5), inequality=0.1),
    **_by_time("very unequal,", (2, 20, 200), (1.3, 2, 5), inequality=0.6),
    **_by_time("the last alone,", (2, 20, 200), (1.3, 2), only_last=True),
    "one core busy throughout": Machine(slowdown=1.6, dwell_seconds=ALWAYS),
    "one core busy throughout, a tenth unequal": Machine(slowdown=1.6, dwell_seconds=ALWAYS, inequality=0.1),
    "all cores busy throughout, a tenth unequal": Machine(slowdown=2.2, dwell_seconds=ALWAYS, inequality=0.1),
    "throughout, the last alone, 2 times": Machine(slowdown=2, dwell_seconds=ALWAYS, only_last=True),
}


class SimulatedRounds:
    """The rounds of one comparison on a machine."""

    def __init__(self, machine: Machine, seed: int) -> None:
        self._machine = machine
        self._random = np.random.default_rng(seed)
        self._seconds = 0.0
        self._busy = self._busy_times()

    def _busy_times(self) -> npt.NDArray[np.bool_]:
        """Return whether there is other work, by the tick, for longer than any comparison takes."""
        one, random = self._machine, self._random
        ticks = round(4 * ROUNDS * (BETWEEN_ROUNDS_SECONDS + len(NAMES) * WINDOWS * WINDOW_SECONDS) / TICK_SECONDS)
        if one.slowdown == 1 or one.dwell_seconds == ALWAYS:
            return np.full(ticks, one.slowdown > 1)
        busy, is_busy, first = np.empty(ticks, bool), random.random() < one.busy_share, 0
        while first < ticks:
            mean = 2 * one.dwell_seconds * (one.busy_share if is_busy else 1 - one.busy_share)
            last = first + 1 + round(random.exponential(mean) / TICK_SECONDS)
            busy[first:last] = is_busy
            first, is_busy = last, not is_busy
        return busy

    def measure(self, round_: int) -> dict[str, list[tuple[float, float]]]:
        """Return the speed of each window of a round, and its waits for two cores, by experiment."""
        one, random = self._machine, self._random
        luck = random.normal(0, one.shared_spread) + random.normal(0, one.run_spread, len(NAMES))
        order = [*range(len(NAMES))]
        order = [*order[round_ % 4 :], *order[: round_ % 4]][:: -1 if round_ % 2 else 1]
        self._seconds += BETWEEN_ROUNDS_SECONDS
        windows: dict[str, list[tuple[float, float]]] = {name: [] for name in NAMES}
        for _ in range(WINDOWS):
            for which in order:
                work = WINDOW_SECONDS * math.exp(luck[which] + random.normal(0, one.window_spread))
                work *= 1 + one.drift * round_ / (ROUNDS - 1)
                seconds, waited = self._take(work, self._slowdown_of(which))
                windows[NAMES[which]].append((1 / seconds, waited / seconds))
        return windows

    def _slowdown_of(self, which: int) -> float:
        one, last = self._machine, len(NAMES) - 1
        if one.only_last:
            return one.slowdown if which == last else 1.0
        return one.slowdown ** (1 - one.inequality * which / last)

    def _take(self, work: float, slowdown: float) -> tuple[float, float]:
        """Return the seconds that so much work takes from now on, and those that it waits."""
        start, waited = self._seconds, 0.0
        while work > 1e-9:
            tick = int(self._seconds / TICK_SECONDS + 1e-9)
            factor = slowdown if self._busy[min(tick, len(self._busy) - 1)] else 1.0
            step = min((tick + 1) * TICK_SECONDS - self._seconds, work * factor)
            self._seconds += step
            work -= step / factor
            waited += step * (1 - 1 / factor)
        return self._seconds - start, waited


@dataclass(frozen=True, slots=True)
class Comparison:
    """The ratios of one simulated comparison to its first experiment."""

    by_medians: dict[str, Ratio]  # of each run's median window, over all rounds as if undisturbed
    weighted: dict[str, Ratio]


def compare(machine: Machine, seed: int, rounds: int = ROUNDS) -> Comparison:
    """Simulate a comparison, and compare its experiments as the harness does."""
    simulated = SimulatedRounds(machine, seed)
    measured = [simulated.measure(round_) for round_ in range(rounds)]
    medians, rates, log_slowdown = (dict[str, dict[int, float]]() for _ in range(3))
    for name in NAMES:
        runs = [[*zip(*of_round[name], strict=True)] for of_round in measured]
        weights = [weigh_windows(speeds, waits if machine.has_counters else ()) for speeds, waits in runs]
        of = [one.rate([1] * WINDOWS, [1 / rate for rate in run[0]]) for one, run in zip(weights, runs, strict=True)]
        rates[name] = dict(enumerate(of))
        log_slowdown[name] = dict(enumerate(log_slowdown_of_runs(of, [one.log_slowdown for one in weights])))
        medians[name] = {number: median(run[0]) for number, run in enumerate(runs)}
    base, *others = NAMES
    slowed = {name: (log_slowdown[base], log_slowdown[name]) for name in others}
    return Comparison(
        ratios_of(medians[base], {name: medians[name] for name in others}),
        ratios_of(rates[base], {name: rates[name] for name in others}, slowed),
    )


def coverage(machine: Machine, comparisons: int, first_seed: int = 0) -> dict[str, float]:
    """Return shares of simulated ratios, and widths of intervals."""
    found = [compare(machine, first_seed + number) for number in range(comparisons)]
    plain = [ratio for one in found for ratio in one.by_medians.values()]
    ratios = [ratio for one in found for ratio in one.weighted.values()]
    interval_before_widening = [
        ratio.interval_before_widening or (ratio.low or 0.0, ratio.high or math.inf) for ratio in ratios
    ]
    withheld = np.array([ratio.verdict == "disturbed" for ratio in ratios])
    return {
        "medians cover": float(np.mean(covers(plain))),
        "interval_before_widening cover": float(np.mean([low <= 1 <= high for low, high in interval_before_widening])),
        "covers": float(np.mean(np.array(covers(ratios)) | withheld)),
        "wrong verdicts": float(np.mean([ratio.verdict in ("faster", "slower") for ratio in ratios])),
        "withheld": float(withheld.mean()),
        "medians' margin": float(np.median([math.log((ratio.high or 1) / (ratio.low or 1)) / 2 for ratio in plain])),
        "margin": float(np.median([math.log((ratio.high or 1) / (ratio.low or 1)) / 2 for ratio in ratios])),
    }


def covers(ratios: Sequence[Ratio]) -> list[bool]:
    """Return which intervals contain 1."""
    return [ratio.low is not None and ratio.high is not None and ratio.low <= 1 <= ratio.high for ratio in ratios]


def main() -> None:
    """Print a row for each machine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comparisons", type=int, default=170, help="per machine, of three ratios each (170)")
    parser.add_argument(
        "--first-seed", type=int, default=0, help="of the comparisons; 0 to 169 tuned the constants (0)"
    )
    parser.add_argument("--machine", default="", help="of the machines with this text in their names")
    parser.add_argument("--without-waits", action="store_true", help="on a system that does not count threads' waits")
    options = parser.parse_args()
    for name in (one for one in MACHINES if options.machine in one):
        machine = replace(MACHINES[name], has_counters=not options.without_waits)
        row = " | ".join(
            f"{value:.3g}" for value in coverage(machine, options.comparisons, options.first_seed).values()
        )
        print(f"| {name} | {row} |", flush=True)


if __name__ == "__main__":
    main()
