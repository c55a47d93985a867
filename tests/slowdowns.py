"""Which slowdowns a comparison detects on this machine: `nox -s selftest`, half an hour on two cores.

An experiment is compared with itself and with copies that sleep for 5 and 10 % of each window, six times in ten rounds.
Further comparisons are simulated with the spread that was measured. pytest collects this file only where it is named.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bench.experiment.config import MAY_DIFFER, Experiment, change
from bench.experiment.experiments import EXPERIMENTS
from bench.experiment.settings import with_settings
from bench.measure.throughput import undisturbed_rates_by_round
from bench.orchestration.preflight import begin, check
from bench.records.record import Memory, Record
from bench.statistics.ratios import Ratio, compare_rates

COMPARISONS = 6
ROUNDS = 10
SIMULATED_COMPARISONS = 2_000
SIMULATED_ROUNDS = (5, 8, 10, 20)
SLOWDOWNS = (0.02, 0.03, 0.05, 0.10)
MAX_FALSE_ALARMS = 1  # of the six comparisons of an experiment with itself
CALM_SPREAD = 0.03  # standard deviation of the log throughput within a round, under which 10 % must always be detected
MAX_FALSE_ALARM_SHARE = 0.02  # of simulated comparisons
# Bounds of the share of simulated comparisons whose 95 % interval contains the true ratio.
COVERAGE = (
    0.93,
    0.97,
)
MIN_POWER = 0.90  # share of simulated slowdowns of 5 % that ten rounds detect at a spread of 2 %
# Between equal runs at the tiny scale: 116 MiB, in huge pages of 2 MiB.
MAX_MEMORY_DIFFERENCE = 0.08

LogRates = npt.NDArray[np.float64]  # logs of images per second, [comparisons, arms, rounds]


@dataclass(frozen=True)
class Spread:
    """Standard deviations of the log throughput."""

    shared: float  # of what the runs of a round have in common
    single: float  # of a single run about that


@dataclass(frozen=True)
class Measured:
    """What was measured on this machine."""

    log_rates: LogRates
    memory: list[Memory]

    def ratios(self, arm: int) -> list[Ratio]:
        """Compare an arm with the unchanged experiment, in each comparison."""
        return compare(self.log_rates[:, [0, arm]])


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Measure all comparisons, and print what they say about this machine."""
    arms = slowed_arms()
    records = measure_arms(arms, tmp_path_factory.mktemp("results"))
    rates = undisturbed_rates_by_round(records)
    logs = np.log(
        [[rates[arm.name][round_] for round_ in range(COMPARISONS * ROUNDS)] for arm in arms]
    )
    log_rates = logs.reshape(len(arms), COMPARISONS, ROUNDS).swapaxes(0, 1)
    memory = [record.measured for record in records if isinstance(record.measured, Memory)]
    print_detection(fit_spread(log_rates))
    return Measured(log_rates, memory)


def slowed_arms() -> list[Experiment]:
    """Return an experiment, the same again, and copies that sleep for 5 % and 10 % of each window."""
    base = change(EXPERIMENTS["clip-tiny"], warmup_steps=4, steps_per_window=3)
    return [
        base,
        change(base, name=f"{base.name}-again"),
        with_settings(base, ["injected_slowdown=0.05"]),
        with_settings(base, ["injected_slowdown=0.1"]),
    ]


def measure_arms(arms: list[Experiment], results: Path) -> list[Record]:
    """Time the arms in interleaved rounds, and the memory of three equal runs: first, last and beside another."""
    check(results, arms, may_differ=(*MAY_DIFFER, "injected_slowdown"))
    comparison = begin(results, "selftest", arms)
    comparison.measure_memory(arms[:1])
    comparison.measure(COMPARISONS * ROUNDS)
    comparison.measure_memory(arms[1:3])
    assert not comparison.runner.failures
    return comparison.records()


def compare(pairs: LogRates) -> list[Ratio]:
    """Compare the second arm with the first, in each comparison."""
    return [
        compare_rates(dict(enumerate(base)), dict(enumerate(other)))
        for base, other in np.exp(pairs).tolist()
    ]


def fit_spread(log_rates: LogRates) -> Spread:
    """Fit the spread by a two-way analysis of variance, with the mean of each arm removed."""
    _, arms, rounds = log_rates.shape
    deviations = log_rates - log_rates.mean(axis=2, keepdims=True)
    round_means = deviations.mean(axis=1)
    residuals = deviations - round_means[:, None]
    single = (residuals**2).sum(axis=(1, 2)).mean() / ((arms - 1) * (rounds - 1))
    shared = (round_means**2).sum(axis=1).mean() / (rounds - 1) - single / arms
    return Spread(shared=float(np.sqrt(max(0.0, shared))), single=float(np.sqrt(single)))


def simulate(spread: Spread, rounds: int, slowdown: float) -> list[Ratio]:
    """Compare two arms of normal log throughputs, the second slower by `slowdown`."""
    random = np.random.default_rng(0)
    shared = random.normal(0, spread.shared, (SIMULATED_COMPARISONS, 1, rounds))
    single = random.normal(0, spread.single, (SIMULATED_COMPARISONS, 2, rounds))
    log_rates = shared + single
    log_rates[:, 1] -= np.log1p(slowdown)
    return compare(log_rates)


def share_called(ratios: list[Ratio], *verdicts: str) -> float:
    """Return the share of comparisons with one of the verdicts."""
    return sum(ratio.verdict in verdicts for ratio in ratios) / len(ratios)


def print_detection(spread: Spread) -> None:
    """Print the share of simulated slowdowns that comparisons on this machine detect."""
    print(
        f"\nspread of the log throughput: {spread.shared:.1%} shared by a round, {spread.single:.1%} of single runs"
    )
    print("rounds  " + "".join(f"detects {slowdown:.0%}".rjust(14) for slowdown in SLOWDOWNS))
    for rounds in SIMULATED_ROUNDS:
        shares = [
            share_called(simulate(spread, rounds, slowdown), "slower") for slowdown in SLOWDOWNS
        ]
        print(f"{rounds:6}  " + "".join(f"{share:14.3f}" for share in shares))


def print_ratios(title: str, ratios: list[Ratio]) -> None:
    """Print the ratios of all comparisons with their verdicts."""
    print(f"\n{title}: " + ", ".join(f"{ratio.value:.3f} {ratio.verdict}" for ratio in ratios))


@pytest.mark.parametrize("expected", [Spread(0.0, 0.02), Spread(0.03, 0.01), Spread(0.02, 0.02)])
def test_fitted_spread_is_the_spread_that_was_drawn(expected: Spread) -> None:
    random = np.random.default_rng(0)
    shared = random.normal(0, expected.shared, (400, 1, ROUNDS))
    fitted = fit_spread(shared + random.normal(0, expected.single, (400, 4, ROUNDS)))
    assert fitted.single == pytest.approx(expected.single, rel=0.05)
    assert fitted.shared == pytest.approx(expected.shared, abs=0.002)


def test_ten_rounds_detect_five_percent_at_a_spread_of_two_percent() -> None:
    assert share_called(simulate(Spread(0.0, 0.02), 10, 0.05), "slower") >= MIN_POWER


def test_equal_experiments_raise_at_most_one_false_alarm(measured: Measured) -> None:
    verdicts = [ratio.verdict for ratio in measured.ratios(arm=1)]
    assert verdicts.count("slower") + verdicts.count("faster") <= MAX_FALSE_ALARMS, verdicts


def test_five_percent_slower_is_reported(measured: Measured) -> None:
    print_ratios("5 % slower, expected ratio 0.952", measured.ratios(arm=2))


def test_ten_percent_slower_is_always_detected(measured: Measured) -> None:
    ratios = measured.ratios(arm=3)
    print_ratios("10 % slower, expected ratio 0.909", ratios)
    spread = fit_spread(measured.log_rates)
    if spread.single >= CALM_SPREAD:
        pytest.skip(f"this machine is too restless: {spread.single:.1%} spread within a round")
    assert share_called(ratios, "slower") == 1, ratios


@pytest.mark.parametrize("rounds", SIMULATED_ROUNDS)
def test_false_alarms_are_rare_and_intervals_cover_at_the_measured_spread(
    measured: Measured, rounds: int
) -> None:
    ratios = simulate(fit_spread(measured.log_rates), rounds, 0.0)
    assert share_called(ratios, "faster", "slower") <= MAX_FALSE_ALARM_SHARE
    covering = [
        ratio for ratio in ratios if ratio.low is not None and ratio.low <= 1 <= (ratio.high or 0)
    ]
    assert COVERAGE[0] <= len(covering) / len(ratios) <= COVERAGE[1]


def test_equal_runs_need_equal_memory(measured: Measured) -> None:
    peaks = [
        memory.peak_rss_bytes or memory.peak_allocated_bytes or 0 for memory in measured.memory
    ]
    assert len(peaks) == 3
    assert len({memory.peak_tensor_bytes for memory in measured.memory}) == 1
    assert max(peaks) / min(peaks) - 1 <= MAX_MEMORY_DIFFERENCE
