"""Which slowdowns a comparison detects on this machine: `nox -s selftest`, half an hour on two cores.

An experiment is compared with itself and with copies that sleep for 5 and 10 % of each window, six times in ten rounds.
pytest collects this file only where it is named.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bench.experiment.config import MAY_DIFFER, Experiment, change
from bench.experiment.experiments import EXPERIMENTS
from bench.experiment.settings import renamed_with_settings
from bench.measure.throughput import rates_by_experiment_and_round, timed_runs_by_experiment
from bench.measure.timed_run import TimedRun
from bench.orchestration.preflight import begin_comparison, require_runnable_and_prepare_data
from bench.records.record import Memory, Record
from bench.statistics.ratios import RateRatio, compare_rates

COMPARISONS = 6
ROUNDS_PER_COMPARISON = 10
MAX_FALSE_ALARMS = 1  # of the six comparisons of an experiment with itself
CALM_SPREAD = 0.03  # standard deviation of the log throughput within a round, under which 10 % must always be detected
# Between the peaks of equal runs. At the tiny scale they are about 116 MiB and memory comes in huge pages of 2 MiB, so
# that each page is 1.7 % and this is four of them.
MAX_MEMORY_DIFFERENCE = 0.08

# The arms of a comparison.
NUM_ARMS = 4
UNCHANGED, REPEATED, SLOWER_BY_5_PERCENT, SLOWER_BY_10_PERCENT = range(NUM_ARMS)
LogRates = npt.NDArray[np.float64]  # logs of images per second, [comparisons, arms, rounds]


@dataclass(frozen=True)
class Measured:
    """What was measured on this machine."""

    log_rates: LogRates
    memory: list[Memory]

    def ratios(self, arm: int) -> list[RateRatio]:
        """Compare an arm with the unchanged experiment, in each comparison."""
        pairs = np.exp(self.log_rates[:, [UNCHANGED, arm]]).tolist()
        return [
            compare_rates(dict(enumerate(base)), dict(enumerate(other))) for base, other in pairs
        ]

    def spread_in_round(self) -> float:
        """Return the standard deviation of the log throughput of single runs about the mean of their round."""
        _, num_arms, num_rounds = self.log_rates.shape
        deviations = self.log_rates - self.log_rates.mean(axis=2, keepdims=True)
        residuals = deviations - deviations.mean(axis=1, keepdims=True)
        variances = (residuals**2).sum(axis=(1, 2)) / ((num_arms - 1) * (num_rounds - 1))
        return float(np.sqrt(variances.mean()))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """Measure all comparisons."""
    arms = slowed_arms()
    records = measure_arms(arms, tmp_path_factory.mktemp("results"))
    rates = rates_by_experiment_and_round(
        timed_runs_by_experiment(records), TimedRun.undisturbed_images_per_second
    )
    logs = np.log(
        [
            [rates[arm.name][round_] for round_ in range(COMPARISONS * ROUNDS_PER_COMPARISON)]
            for arm in arms
        ]
    )
    log_rates = logs.reshape(len(arms), COMPARISONS, ROUNDS_PER_COMPARISON).swapaxes(0, 1)
    memory = [record.measured for record in records if isinstance(record.measured, Memory)]
    return Measured(log_rates, memory)


def slowed_arms() -> list[Experiment]:
    """Return the experiments of the four arms: one, the same again, and copies that sleep in each window."""
    base = change(EXPERIMENTS["clip-tiny"], untimed_steps=4, steps_per_window=3)
    return [
        base,
        change(base, name=f"{base.name}-again"),
        renamed_with_settings(base, ["injected_slowdown=0.05"]),
        renamed_with_settings(base, ["injected_slowdown=0.1"]),
    ]


def measure_arms(arms: list[Experiment], results: Path) -> list[Record]:
    """Measure the memory of the arms, in parallel on a CPU, and time them in interleaved rounds."""
    require_runnable_and_prepare_data(results, arms, may_differ=(*MAY_DIFFER, "injected_slowdown"))
    comparison = begin_comparison(results, "selftest", arms)
    comparison.measure_memory()
    comparison.measure_speed(range(COMPARISONS * ROUNDS_PER_COMPARISON))
    assert not comparison.runner.failures
    return comparison.records()


def test_equal_experiments_raise_at_most_one_false_alarm(measured: Measured) -> None:
    verdicts = [ratio.verdict for ratio in measured.ratios(REPEATED)]
    assert verdicts.count("slower") + verdicts.count("faster") <= MAX_FALSE_ALARMS, verdicts


def test_slower_copies_are_detected(measured: Measured) -> None:
    """5 % is reported; 10 % must always be detected on a calm machine."""
    spread = measured.spread_in_round()
    print(f"\nspread of the log throughput within a round: {spread:.1%}")
    ratios_by_percent = {
        5: measured.ratios(SLOWER_BY_5_PERCENT),
        10: measured.ratios(SLOWER_BY_10_PERCENT),
    }
    for percent, ratios in ratios_by_percent.items():
        shown = ", ".join(f"{ratio.value:.3f} {ratio.verdict}" for ratio in ratios)
        print(f"{percent} % slower: {shown}")
    if spread >= CALM_SPREAD:
        pytest.skip(f"this machine is too restless: {spread:.1%} spread within a round")
    assert {ratio.verdict for ratio in ratios_by_percent[10]} == {"slower"}, ratios_by_percent[10]


def test_equal_runs_need_equal_memory(measured: Measured) -> None:
    peaks = list[int]()
    for memory in measured.memory:
        peak = memory.peak_rss_bytes or memory.peak_allocated_bytes  # the latter on a GPU
        assert peak is not None
        peaks.append(peak)
    assert len(peaks) == NUM_ARMS
    assert len({memory.peak_tensor_bytes for memory in measured.memory}) == 1
    assert max(peaks) / min(peaks) - 1 <= MAX_MEMORY_DIFFERENCE
