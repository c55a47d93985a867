"""Simulated comparisons on disturbed machines: `python -m tests.simulated_machines` prints how the intervals do.

Four experiments are interleaved window by window, as in a comparison on a CPU, while other work takes cores from them.
Their own window times differ in spread, or have slow steps that are a cost of the experiment. The true ratios follow
from the settings of the simulation.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bench.measure.windows import MAX_WINDOWS_FACTOR, TimingWindows
from bench.statistics.ratios import (
    RateRatio,
    compare_rate_pairs,
    compute_rate_ratio_without_interval,
)

ROUNDS, WINDOWS = 10, 20  # as in the default comparison
NAMES = ("a", "b", "c", "d")
WINDOW_SECONDS = 0.08  # of a step of the tiny experiments on two cores
BETWEEN_ROUNDS_SECONDS = 15.0  # for the processes to start and warm up
TICK_SECONDS = 0.01
ALWAYS = math.inf


@dataclass(frozen=True, slots=True)
class Machine:
    """Standard deviations of logarithms, the experiments' own slow windows, and how other work slows the machine."""

    round_spread: float = 0.04  # shared by all runs of a round
    run_spread: float = 0.01
    window_spreads: tuple[float, ...] = (0.04, 0.04, 0.04, 0.04)  # by experiment
    slow_every: int = 0  # windows: each such window of the last experiment is slow by itself
    slow_by: float = 0.0  # relative, of these windows
    pause_share: float = 0.0  # of the windows of every experiment, at random: a garbage collection
    pause_by: float = 0.0  # relative, of these windows
    slowdown: float = 1.0  # while there is other work
    # Mean time with other work, and without it where both have equal shares.
    dwell_seconds: float = 20.0
    busy_share: float = 0.5  # of the time
    inequality: float = 0.0  # share of the slowdown's logarithm that the last experiment is spared
    only_last: bool = False  # whether other work slows the last experiment alone
    # Share of a slowdown that waits do not show: caches and memory are shared too.
    hidden_slowdown: float = 0.0
    waits_slope: float = 1.0  # by how much the logarithm of the seconds grows with waits
    has_waits: bool = True  # whether waits are reported
    drift: float = 0.0  # relative rise of all times from the first round to the last

    def true_ratio(self, index: int) -> float:
        """Return the quotient of the mean undisturbed seconds of a window: of the first experiment over another."""
        return self._mean_seconds(0) / self._mean_seconds(index)

    def _mean_seconds(self, index: int) -> float:
        seconds = math.exp(self.window_spreads[index] ** 2 / 2) * (
            1 + self.pause_share * self.pause_by
        )
        if self.slow_every and index == len(NAMES) - 1:
            seconds *= 1 + self.slow_by / self.slow_every
        return seconds


UNEQUAL = (0.04, 0.06, 0.08, 0.12)
MACHINES = {
    "quiet": Machine(),
    "unequal spread": Machine(window_spreads=UNEQUAL),
    "every fifth step 25 % longer": Machine(slow_every=5, slow_by=0.25),
    "garbage collection": Machine(pause_share=0.1, pause_by=0.5),
    "drifts by 100 %": Machine(drift=1.0),
    "light load": Machine(window_spreads=UNEQUAL, slowdown=1.6, dwell_seconds=0.3, busy_share=0.3),
    "bursts 70 % of the time, 10 s": Machine(
        window_spreads=UNEQUAL, slowdown=2.5, dwell_seconds=10, busy_share=0.7
    ),
    "two speeds, 5 times, 2 s": Machine(window_spreads=UNEQUAL, slowdown=5, dwell_seconds=2),
    "very unequal, 5 times, 20 s": Machine(
        window_spreads=UNEQUAL, slowdown=5, dwell_seconds=20, inequality=0.6
    ),
    "the last alone, 1.3 times, 20 s": Machine(slowdown=1.3, dwell_seconds=20, only_last=True),
    "bursts, slow steps, pauses": Machine(
        window_spreads=UNEQUAL,
        slow_every=5,
        slow_by=0.25,
        pause_share=0.1,
        pause_by=0.5,
        slowdown=2.5,
        dwell_seconds=3,
    ),
    "bursts, waits grow by 1.2": Machine(
        window_spreads=UNEQUAL, slowdown=2.5, dwell_seconds=3, waits_slope=1.2
    ),
    "bursts, a tenth not in the waits": Machine(slowdown=2.5, dwell_seconds=3, hidden_slowdown=0.1),
    "one core busy throughout": Machine(slowdown=1.6, dwell_seconds=ALWAYS),
}


class SimulatedRounds:
    """The rounds of one comparison on a machine."""

    def __init__(self, machine: Machine, seed: int) -> None:
        self._machine = machine
        self._random = np.random.default_rng(seed)
        self._seconds = 0.0
        self._busy = self._busy_ticks()

    def _busy_ticks(self) -> npt.NDArray[np.bool_]:
        """Return whether there is other work, by the tick, for longer than any comparison takes."""
        machine = self._machine
        windows = ROUNDS * len(NAMES) * WINDOWS * MAX_WINDOWS_FACTOR
        seconds = ROUNDS * BETWEEN_ROUNDS_SECONDS + windows * WINDOW_SECONDS * machine.slowdown * (
            1 + machine.drift
        )
        ticks = round(2 * seconds / TICK_SECONDS)
        if machine.slowdown == 1 or machine.dwell_seconds == ALWAYS:
            return np.full(ticks, machine.slowdown > 1)
        busy = np.empty(ticks, bool)
        is_busy = self._random.random() < machine.busy_share
        first = 0
        while first < ticks:
            share = machine.busy_share if is_busy else 1 - machine.busy_share
            last = (
                first
                + 1
                + round(self._random.exponential(2 * machine.dwell_seconds * share) / TICK_SECONDS)
            )
            busy[first:last] = is_busy
            first = last
            is_busy = not is_busy
        return busy

    def measure(self, round_: int) -> dict[str, TimingWindows]:
        """Return the windows of a round by experiment; each run ends by the rule for windows."""
        machine = self._machine
        luck = self._random.normal(0, machine.round_spread)
        luck_of_runs = luck + self._random.normal(0, machine.run_spread, len(NAMES))
        order = list(range(len(NAMES)))
        order = order[round_ % len(NAMES) :] + order[: round_ % len(NAMES)]
        self._seconds += BETWEEN_ROUNDS_SECONDS
        runs = {name: TimingWindows(WINDOWS, [], [], []) for name in NAMES}
        while unfinished := [
            index for index in order if not runs[NAMES[index]].has_enough_windows()
        ]:
            for index in unfinished:
                run = runs[NAMES[index]]
                work = self._work(index, len(run.seconds)) * math.exp(luck_of_runs[index])
                work *= 1 + machine.drift * round_ / (ROUNDS - 1)
                seconds, waited = self._take(work, self._slowdown_of(index))
                waits = [*run.waiting_cores, waited / seconds] if machine.has_waits else []
                runs[NAMES[index]] = replace(
                    run,
                    images=[*run.images, 1],
                    seconds=[*run.seconds, seconds],
                    waiting_cores=waits,
                )
        return runs

    def _work(self, index: int, number: int) -> float:
        """Return the undisturbed seconds of a window of an experiment."""
        machine = self._machine
        seconds = WINDOW_SECONDS * math.exp(self._random.normal(0, machine.window_spreads[index]))
        if self._random.random() < machine.pause_share:
            seconds *= 1 + machine.pause_by
        if machine.slow_every and index == len(NAMES) - 1 and number % machine.slow_every == 0:
            seconds *= 1 + machine.slow_by
        return seconds

    def _slowdown_of(self, index: int) -> float:
        machine = self._machine
        last = len(NAMES) - 1
        if machine.only_last:
            return machine.slowdown if index == last else 1.0
        return machine.slowdown ** (1 - machine.inequality * index / last)

    def _take(self, work: float, slowdown: float) -> tuple[float, float]:
        """Return the seconds that so much work takes from now on, and the seconds that are reported as waits."""
        machine = self._machine
        start = self._seconds
        waited = 0.0
        while work > 1e-9:
            tick = int(self._seconds / TICK_SECONDS + 1e-9)
            factor = slowdown if self._busy[min(tick, len(self._busy) - 1)] else 1.0
            step = min((tick + 1) * TICK_SECONDS - self._seconds, work * factor)
            self._seconds += step
            work -= step / factor
            waited += step * (1 - 1 / factor)
        return self._seconds - start, waited * (1 - machine.hidden_slowdown) / machine.waits_slope


def simulate(machine: Machine, seed: int) -> list[dict[str, TimingWindows]]:
    """Return the windows of each round of a comparison, by experiment."""
    rounds = SimulatedRounds(machine, seed)
    return [rounds.measure(round_) for round_ in range(ROUNDS)]


def compare(measured: Sequence[dict[str, TimingWindows]]) -> dict[str, RateRatio]:
    """Return the ratios to the first experiment as the harness does; without an answer they have no interval."""
    rates: dict[str, dict[int, float]] = {name: {} for name in NAMES}
    for round_, runs in enumerate(measured):
        for name, windows in runs.items():
            rate = windows.undisturbed_images_per_second()
            if rate is not None:
                rates[name][round_] = rate
    base, *others = NAMES
    ratios = {}
    for name in others:
        if len(rates[base].keys() & rates[name].keys()) < 2:
            everything = [
                dict(enumerate(runs[side].images_per_second_of_all_windows() for runs in measured))
                for side in (base, name)
            ]
            ratios[name] = compute_rate_ratio_without_interval(*everything)
    answered = {name: (rates[base], rates[name]) for name in others if name not in ratios}
    return ratios | compare_rate_pairs(answered)


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of the ratios of many comparisons; shares from 0 to 1."""

    bias: float  # mean logarithm of estimated over true ratio, the largest of the three experiments
    coverage: float  # of the intervals that there are
    wrong_verdicts: float  # "faster" or "slower" where the truth is within the smallest effect, or on the other side
    answered: float  # ratios with an interval
    half_width: float  # median, of the logarithm


def summarize(machine: Machine, comparisons: Sequence[dict[str, RateRatio]]) -> Summary:
    """Compare the ratios with the truth."""
    errors: dict[str, list[float]] = {name: [] for name in NAMES[1:]}
    covered = []
    half_widths = []
    wrong = 0
    for ratios in comparisons:
        for index, name in enumerate(NAMES[1:], 1):
            ratio = ratios[name]
            truth = machine.true_ratio(index)
            is_wrong = (ratio.verdict == "faster" and truth < 1.005) or (
                ratio.verdict == "slower" and truth > 0.995
            )
            wrong += is_wrong
            if ratio.low is not None and ratio.high is not None:
                errors[name].append(math.log(ratio.value / truth))
                covered.append(ratio.low <= truth <= ratio.high)
                half_widths.append(math.log(ratio.high / ratio.low) / 2)
    number = len(comparisons) * (len(NAMES) - 1)
    if not covered:
        return Summary(math.nan, math.nan, wrong / number, 0.0, math.nan)
    return Summary(
        bias=max((float(np.mean(values)) for values in errors.values() if values), key=abs),
        coverage=float(np.mean(covered)),
        wrong_verdicts=wrong / number,
        answered=len(covered) / number,
        half_width=float(np.median(half_widths)),
    )


def main() -> None:
    """Print a row of a table for each machine."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--comparisons", type=int, default=200, help="per machine, of three ratios each (200)"
    )
    parser.add_argument(
        "--first-seed", type=int, default=0, help="seed of the first comparison (0)"
    )
    parser.add_argument("--machine", default="", help="only machines with this text in their names")
    options = parser.parse_args()
    print(
        "| machine | bias | coverage | wrong verdicts | answered | half width |\n|---|---|---|---|---|---|"
    )
    for name, machine in MACHINES.items():
        if options.machine in name:
            seeds = range(options.first_seed, options.first_seed + options.comparisons)
            result = summarize(machine, [compare(simulate(machine, seed)) for seed in seeds])
            cells = [
                f"{100 * result.bias:+.2f} %",
                f"{100 * result.coverage:.1f} %",
                f"{100 * result.wrong_verdicts:.2f} %",
                f"{100 * result.answered:.0f} %",
                f"{100 * result.half_width:.1f} %",
            ]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
