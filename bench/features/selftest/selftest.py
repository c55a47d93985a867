"""The verb `selftest`: measures the power and the false-positive rate of comparisons on this machine."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from bench.cli.options import Json, Results, print_results
from bench.console.console import DISAGREEMENT, OK
from bench.console.tables import print_tables
from bench.experiment.config import MAY_DIFFER, Experiment, change
from bench.experiment.experiments import EXPERIMENTS
from bench.experiment.settings import with_settings
from bench.measure.tables import ratio_columns
from bench.measure.throughput import throughputs_by_round
from bench.orchestration.comparison import Comparison
from bench.orchestration.preflight import begin, check, resume
from bench.records.record import Memory
from bench.statistics.ratios import Ratio, Rounds, ratio_of
from bench.tables.tables import Table

COMPARISONS, ROUNDS = 6, 10
WARMUP_STEPS, STEPS_PER_WINDOW = 4, 3  # fewer than in the tiny experiments, for 240 processes in half an hour
SIMULATED, SIMULATED_CHANGES = 10_000, 1_000
ROUNDS_SHOWN, CHANGES_SHOWN = (5, 8, 10, 20), (0.02, 0.03, 0.05, 0.10)
ASSUMED_SPREAD = 0.02  # run-to-run spread at which ten rounds must detect a change of 5 %
MAX_CALM_SPREAD = 0.03  # spread within a round under which a change of 10 % must always be detected
# Bounds of the checks; shares but for `MAX_ALARMS`, a number of comparisons.
MAX_ALARMS, MAX_FALSE_ALARM_RATE = 1, 0.02
MIN_COVERAGE, MAX_COVERAGE = 0.93, 0.97
MIN_POWER = 0.90
MAX_MEMORY_DIFFERENCE = 0.08  # of runs at the tiny scale: 116 MiB, in huge pages of 2 MiB


@dataclass(frozen=True, slots=True)
class LogThroughputSpread:
    """Standard deviations of the log throughput: of the component that a round's runs share, and of a run's own."""

    shared: float
    own: float

    @property
    def between_runs(self) -> float:
        """The standard deviation between runs of different rounds."""
        return math.hypot(self.shared, self.own)


@dataclass(frozen=True, slots=True)
class SlowdownDetectionCheck:
    """Compare an experiment with itself and with injected slowdowns of 5 and 10 %, and check the verdicts.

    Six comparisons of ten rounds with four arms run in 240 processes, about half an hour on two cores. Further
    comparisons are simulated with the measured spread. The exit code is 1 if a bound is missed.
    """

    resume: bool = False  # resume the newest self-test; recorded runs are not repeated
    results: Results = Path("results")
    json: Json = None
    purpose: ClassVar[str] = "check"
    resume_hint = "finished runs are kept; resume with: nox -s selftest -- --resume"

    def run(self) -> int:
        """Measure and simulate comparisons, then check the bounds."""
        arms = injected_slowdown_arms()
        allowed = (*MAY_DIFFER, "injected_slowdown")
        check(self.results, arms, may_differ=allowed)
        comparison = (resume if self.resume else begin)(self.results, "selftest", arms)
        comparison.measure_memory(arms[:1])
        comparison.measure(COMPARISONS * ROUNDS)
        comparison.measure_memory(arms[1:3])
        if comparison.runner.failures:
            return print_results(comparison, json_file=self.json)
        comparisons = rates_by_comparison(comparison)
        ratios, spread = [compare_arms(rates) for rates in comparisons], fit_spread(comparisons)
        simulated = [simulate_row(spread, rounds) for rounds in ROUNDS_SHOWN]
        checks = [*check_measured(ratios, spread), *check_simulated(simulated), check_memory_repeatability(comparison)]
        print_tables(
            [measured_table(ratios), simulated_table(simulated, spread), Table.of_figures("Bounds", checks)], self.json
        )
        return OK if all(check["holds"] != "no" for check in checks) else DISAGREEMENT


def injected_slowdown_arms() -> list[Experiment]:
    """Return an experiment, its copy, and two copies that sleep for 5 % and 10 % of their windows' time."""
    base = change(EXPERIMENTS["clip-tiny"], warmup_steps=WARMUP_STEPS, steps_per_window=STEPS_PER_WINDOW)
    slowed = [with_settings(base, [f"injected_slowdown={delay}"]) for delay in (0.05, 0.1)]
    return [base, change(base, name=f"{base.name}-again"), *slowed]


def rates_by_comparison(comparison: Comparison) -> list[list[Rounds]]:
    """Return the images per second of each comparison: ten rounds per arm."""
    rates = throughputs_by_round(comparison.records())
    return [
        [{round_: rates[arm.name][round_] for round_ in range(first, first + ROUNDS)} for arm in comparison.experiments]
        for first in range(0, COMPARISONS * ROUNDS, ROUNDS)
    ]


def compare_arms(arms: Sequence[Rounds]) -> list[Ratio]:
    """Compare each arm with the first arm, without adjustment for the number of arms."""
    return [ratio_of(arms[0], arm) for arm in arms[1:]]


def fit_spread(comparisons: Sequence[Sequence[Rounds]]) -> LogThroughputSpread:
    """Split the variance about arm means into that between rounds and the rest: two-way analysis of variance."""
    own, shared = [], []
    for arms in comparisons:
        logs = np.log([list(arm.values()) for arm in arms])  # [arms, rounds]
        logs -= logs.mean(axis=1, keepdims=True)
        round_means = logs.mean(axis=0)
        degrees_of_freedom = (len(logs) - 1) * (len(round_means) - 1)
        own.append(float(((logs - round_means) ** 2).sum() / degrees_of_freedom))
        shared.append(float(round_means @ round_means) / (len(round_means) - 1) - own[-1] / len(logs))
    return LogThroughputSpread(shared=math.sqrt(max(0.0, float(np.mean(shared)))), own=math.sqrt(float(np.mean(own))))


def simulate(spread: LogThroughputSpread, rounds: int, change: float, comparisons: int) -> list[Ratio]:
    """Compare simulated runs of two arms, the second slower by `change`, with normal log throughputs."""
    random = np.random.default_rng((rounds, round(1e6 * change)))
    shared = random.normal(0, spread.shared, (comparisons, 1, rounds))
    rates = np.exp(shared + random.normal(0, spread.own, (comparisons, 2, rounds)))
    rates[:, 1] /= 1 + change
    return [ratio_of(dict(enumerate(base)), dict(enumerate(other))) for base, other in rates.tolist()]


def simulate_row(spread: LogThroughputSpread, rounds: int) -> dict[str, float | int]:
    """Return false-positive rate, interval coverage and power of simulated comparisons of `rounds` rounds."""
    unchanged = simulate(spread, rounds, 0.0, SIMULATED)
    row: dict[str, float | int] = {
        "rounds": rounds,
        "false alarms": fraction_with_verdict(unchanged, "faster", "slower"),
    }
    row["interval covers"] = float(np.mean([(r.low or 0) <= 1 <= (r.high or 0) for r in unchanged]))
    for slowdown in CHANGES_SHOWN:
        row[f"finds {slowdown:.0%}"] = fraction_with_verdict(
            simulate(spread, rounds, slowdown, SIMULATED_CHANGES), "slower"
        )
    return row


def fraction_with_verdict(ratios: Sequence[Ratio], *verdicts: str) -> float:
    """Return the share of the ratios that have one of the verdicts."""
    return sum(ratio.verdict in verdicts for ratio in ratios) / len(ratios)


def check_measured(comparisons: Sequence[Sequence[Ratio]], spread: LogThroughputSpread) -> list[dict[str, str]]:
    """Check the bounds of the measured comparisons."""
    equal, five, ten = zip(*comparisons, strict=True)
    alarms = sum(ratio.verdict in ("faster", "slower") for ratio in equal)
    slower_five, slower_ten = (sum(ratio.verdict == "slower" for ratio in arm) for arm in (five, ten))
    spreads = f"spread within a round {spread.own:.1%}, between runs {spread.between_runs:.1%}"
    holds = slower_ten == COMPARISONS if spread.own < MAX_CALM_SPREAD else None
    few = f"at most {MAX_ALARMS} of {COMPARISONS}"
    every = f"all {COMPARISONS} if the spread within a round is under {MAX_CALM_SPREAD:.0%}"
    return [
        _check_row("equal arms: false positives", few, str(alarms), holds=alarms <= MAX_ALARMS),
        _check_row("10 % slower: detected", every, f"{slower_ten}; {spreads}", holds=holds),
        _check_row("5 % slower: detected", "no bound", str(slower_five), holds=None),
    ]


def check_simulated(rows: Sequence[Mapping[str, float | int]]) -> list[dict[str, str]]:
    """Check the bounds of the simulated comparisons."""
    alarms, coverages = max(row["false alarms"] for row in rows), [row["interval covers"] for row in rows]
    low, high = min(coverages), max(coverages)
    power = fraction_with_verdict(simulate(LogThroughputSpread(0.0, ASSUMED_SPREAD), 10, 0.05, SIMULATED), "slower")
    is_covered, bound = low >= MIN_COVERAGE and high <= MAX_COVERAGE, f"{MIN_COVERAGE:.0%} to {MAX_COVERAGE:.0%}"
    detected, at_least = "5 % slower, ten rounds, 2 % spread: detected", f"at least {MIN_POWER:.0%}"
    is_rare, at_most = alarms <= MAX_FALSE_ALARM_RATE, f"at most {MAX_FALSE_ALARM_RATE:.0%}"
    return [
        _check_row("simulated false-positive rate", at_most, f"{alarms:.2%}", holds=is_rare),
        _check_row("simulated interval coverage", bound, f"{low:.1%} to {high:.1%}", holds=is_covered),
        _check_row(detected, at_least, f"{power:.1%}", holds=power >= MIN_POWER),
    ]


def check_memory_repeatability(comparison: Comparison) -> dict[str, str]:
    """Check that memory of equal experiments is equal: alone, after the others, and beside another."""
    runs = [record.measured for record in comparison.records() if isinstance(record.measured, Memory)]
    peaks = [memory.peak_rss_bytes or memory.peak_allocated_bytes or 0 for memory in runs]
    difference, is_equal = max(peaks) / min(peaks) - 1, len({memory.peak_tensor_bytes for memory in runs}) == 1
    bound, tensors = f"within {MAX_MEMORY_DIFFERENCE:.0%}, equal tensor bytes", "equal" if is_equal else "unequal"
    holds = difference <= MAX_MEMORY_DIFFERENCE and is_equal
    return _check_row("peak memory, three runs", bound, f"{difference:.1%} apart, {tensors} tensor bytes", holds=holds)


def _check_row(what: str, bound: str, found: str, *, holds: bool | None) -> dict[str, str]:
    return {"check": what, "bound": bound, "found": found, "holds": {True: "yes", False: "no", None: "-"}[holds]}


def measured_table(comparisons: Sequence[Sequence[Ratio]]) -> Table:
    """List the measured ratios."""
    rows = [
        {"comparison": number, "arm": arm} | ratio_columns(ratio)
        for number, ratios in enumerate(comparisons, start=1)
        for arm, ratio in zip(("equal", "5 % slower", "10 % slower"), ratios, strict=True)
    ]
    return Table.of_figures(
        f"{COMPARISONS} comparisons of {ROUNDS} rounds", rows, "Expected: 1, 1/1.05 = 0.952, 1/1.10 = 0.909."
    )


def simulated_table(rows: Sequence[dict[str, float | int]], spread: LogThroughputSpread) -> Table:
    """List false-positive rate, coverage and power by the number of rounds."""
    note = (
        f"{SIMULATED:,} simulated comparisons without a change and {SIMULATED_CHANGES:,} with each change, at the "
        f"measured spread: {spread.shared:.2%} shared by the runs of a round and {spread.own:.2%} of a run's own."
    )
    return Table.of_figures("Detectable changes on this machine", rows, note)
