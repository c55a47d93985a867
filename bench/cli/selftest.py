"""The harness measured: does it find a change that is there, on this machine, and none that is not."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from bench.cli.options import Json, Results
from bench.config import MAY_DIFFER, Experiment, with_settings
from bench.console.exit_codes import DISAGREEMENT, FAILED_CASE, OK
from bench.console.tables import Table, show
from bench.experiments import EXPERIMENTS
from bench.measure.tables import failure_table
from bench.measure.throughput import rates_of
from bench.orchestration.comparison import Comparison, Scope
from bench.orchestration.preflight import begin
from bench.record import Memory
from bench.statistics import Ratio, Rounds, ratio_of

COMPARISONS, ROUNDS = 5, 10
WARMUP_STEPS, STEPS_PER_WINDOW = 4, 3  # fewer than the tiny experiments have: 200 processes in 25 minutes
SIMULATED, SIMULATED_CHANGES = 10_000, 1_000
ROUNDS_SHOWN, CHANGES_SHOWN = (5, 8, 10, 20), (0.02, 0.03, 0.05, 0.10)
STATED_SPREAD = 0.02  # at which a change of 5 % must be found in ten rounds
CALM = 0.03  # spread under which a change of 10 % must always be found
# The bounds.
MOST_ALARMS, MOST_FALSE_ALARMS = 1, 0.02
COVERS_LEAST, COVERS_MOST = 0.93, 0.97
FINDS_LEAST = 0.90
MEMORY_APART = 0.05


@dataclass(frozen=True, slots=True)
class Spread:
    """Standard deviations of a run's logarithm, about relative: what a round's runs share, and a run's own."""

    shared: float
    own: float

    @property
    def between_runs(self) -> float:
        """Of runs of different rounds."""
        return math.hypot(self.shared, self.own)


@dataclass(frozen=True, slots=True)
class Selftest:
    """Measure what is known: the same experiment twice, and slowed by 5 and by 10 %; say what this machine can find.

    Five comparisons of ten rounds with four arms, 200 processes: about 25 minutes on two cores. Then comparisons are
    simulated with the spread that was found. Exits with 1 where a bound is missed.
    """

    resume: bool = False  # go on with the newest self-test
    results: Results = Path("results")
    json: Json = None
    how_to_go_on = "finished runs are kept; go on with: nox -s selftest -- --resume"

    def run(self) -> int:
        """Measure, simulate, judge."""
        arms = planted_arms()
        scope = Scope("selftest", COMPARISONS * ROUNDS)
        may_differ = (*MAY_DIFFER, "planted_delay")
        comparison = begin(self.results, arms, scope, resume=self.resume, trained=False, may_differ=may_differ)
        comparison.measure_memory(arms[:1])
        comparison.measure(scope.rounds)
        comparison.measure_memory(arms[1:3])
        if comparison.runner.failures:
            show([failure_table(comparison.records())], self.json)
            return FAILED_CASE
        found = [compared(rates) for rates in rounds_apart(comparison)]
        spread = fitted_spread(rounds_apart(comparison))
        simulated = [simulated_row(spread, rounds) for rounds in ROUNDS_SHOWN]
        checks = [*real_checks(found, spread), *simulated_checks(simulated), memory_check(comparison)]
        show([real_table(found), simulated_table(simulated, spread), Table("Bounds", checks)], self.json)
        return OK if all(check["holds"] != "no" for check in checks) else DISAGREEMENT


def planted_arms() -> list[Experiment]:
    """Return an experiment, the same again, and the same with a sleep of 5 % and of 10 % of its windows' time."""
    base = replace(EXPERIMENTS["clip-tiny"], warmup_steps=WARMUP_STEPS, steps_per_window=STEPS_PER_WINDOW)
    slowed = [with_settings(base, [f"planted_delay={delay}"]) for delay in (0.05, 0.1)]
    return [base, replace(base, name=f"{base.name}-again"), *slowed]


def rounds_apart(comparison: Comparison) -> list[list[Rounds]]:
    """Return each comparison's rates, one group of ten rounds an arm."""
    rates = rates_of(comparison.records())
    return [
        [{round_: rates[arm.name][round_] for round_ in range(first, first + ROUNDS)} for arm in comparison.experiments]
        for first in range(0, COMPARISONS * ROUNDS, ROUNDS)
    ]


def compared(arms: Sequence[Rounds]) -> list[Ratio]:
    """Compare each arm with the first, each a question of its own."""
    return [ratio_of(arms[0], arm) for arm in arms[1:]]


def fitted_spread(comparisons: Sequence[Sequence[Rounds]]) -> Spread:
    """Split the variance about each arm's mean into that of rounds and the rest: two-way analysis of variance."""
    own, shared = [], []
    for arms in comparisons:
        logs = np.log([list(arm.values()) for arm in arms])  # [arms, rounds]
        logs -= logs.mean(axis=1, keepdims=True)
        of_round = logs.mean(axis=0)
        freedom = (len(logs) - 1) * (len(of_round) - 1)
        rest = float(((logs - of_round) ** 2).sum() / freedom)
        own.append(rest)
        shared.append(float(of_round @ of_round) / (len(of_round) - 1) - rest / len(logs))
    return Spread(shared=math.sqrt(max(0.0, float(np.mean(shared)))), own=math.sqrt(float(np.mean(own))))


def simulate(spread: Spread, rounds: int, change: float, many: int) -> list[Ratio]:
    """Compare made-up runs: one arm is slower by `change`; logarithms are normal about what their round shares."""
    draw = np.random.default_rng((rounds, round(1e6 * change)))
    shared = draw.normal(0, spread.shared, (many, 1, rounds))
    rates = np.exp(shared + draw.normal(0, spread.own, (many, 2, rounds)))
    rates[:, 1] /= 1 + change
    return [ratio_of(dict(enumerate(base)), dict(enumerate(other))) for base, other in rates.tolist()]


def simulated_row(spread: Spread, rounds: int) -> dict[str, float | int]:
    """Return how often comparisons of so many rounds raise a false alarm, cover the truth, and find changes."""
    unchanged = simulate(spread, rounds, 0.0, SIMULATED)
    row: dict[str, float | int] = {"rounds": rounds, "false alarms": share_called(unchanged, "faster", "slower")}
    row["interval covers"] = float(np.mean([(r.low or 0) <= 1 <= (r.high or 0) for r in unchanged]))
    for change in CHANGES_SHOWN:
        row[f"finds {change:.0%}"] = share_called(simulate(spread, rounds, change, SIMULATED_CHANGES), "slower")
    return row


def share_called(ratios: Sequence[Ratio], *verdicts: str) -> float:
    """Return the share of the ratios that are called so."""
    return sum(ratio.verdict in verdicts for ratio in ratios) / len(ratios)


def real_checks(found: Sequence[Sequence[Ratio]], spread: Spread) -> list[dict[str, str]]:
    """Judge the measured comparisons."""
    again, five, ten = zip(*found, strict=True)
    alarms = sum(ratio.verdict in ("faster", "slower") for ratio in again)
    slower = [sum(ratio.verdict == "slower" for ratio in arm) for arm in (five, ten)]
    told = f"between-run spread {spread.between_runs:.1%} ({spread.shared:.1%} shared by a round, {spread.own:.1%} own)"
    return [
        _check(
            "the same twice: alarms",
            f"at most {MOST_ALARMS} of {COMPARISONS}",
            str(alarms),
            holds=alarms <= MOST_ALARMS,
        ),
        _check(
            "10 % slower: found",
            f"all {COMPARISONS}, spread under {CALM:.0%}",
            f"{slower[1]}; {told}",
            holds=slower[1] == COMPARISONS if spread.between_runs < CALM else None,
        ),
        _check("5 % slower: found", "no bound", str(slower[0]), holds=None),
    ]


def simulated_checks(rows: Sequence[Mapping[str, float | int]]) -> list[dict[str, str]]:
    """Judge the simulated comparisons."""
    alarms, covers = max(row["false alarms"] for row in rows), [row["interval covers"] for row in rows]
    stated = share_called(simulate(Spread(0.0, STATED_SPREAD), 10, 0.05, SIMULATED), "slower")
    return [
        _check(
            "simulated false alarms",
            f"at most {MOST_FALSE_ALARMS:.0%}",
            f"{alarms:.2%}",
            holds=alarms <= MOST_FALSE_ALARMS,
        ),
        _check(
            "simulated intervals cover",
            f"{COVERS_LEAST:.0%} to {COVERS_MOST:.0%}",
            f"{min(covers):.1%} to {max(covers):.1%}",
            holds=min(covers) >= COVERS_LEAST and max(covers) <= COVERS_MOST,
        ),
        _check(
            "5 % in ten rounds at 2 % spread: found",
            f"at least {FINDS_LEAST:.0%}",
            f"{stated:.1%}",
            holds=stated >= FINDS_LEAST,
        ),
    ]


def memory_check(comparison: Comparison) -> dict[str, str]:
    """Judge the memory of the same experiment measured alone, after the others, and beside another."""
    found = [record.measured for record in comparison.records() if isinstance(record.measured, Memory)]
    peaks = [memory.peak_rss_bytes or memory.peak_allocated_bytes or 0 for memory in found]
    counts = {memory.peak_tensor_bytes for memory in found}
    apart = max(peaks) / min(peaks) - 1
    told = f"{apart:.1%} apart; {'equal' if len(counts) == 1 else 'unequal'} tensor bytes"
    return _check(
        "memory of the same, three times",
        f"within {MEMORY_APART:.0%}, equal tensors",
        told,
        holds=apart <= MEMORY_APART and len(counts) == 1,
    )


def _check(what: str, asked: str, found: str, *, holds: bool | None) -> dict[str, str]:
    return {"what": what, "asked": asked, "found": found, "holds": {True: "yes", False: "no", None: "-"}[holds]}


def real_table(found: Sequence[Sequence[Ratio]]) -> Table:
    """List the measured ratios."""
    arms = ("the same again", "5 % slower", "10 % slower")
    rows = [
        {
            "comparison": number,
            "arm": arm,
            "ratio": r.value,
            "low": r.low,
            "high": r.high,
            "p": r.p,
            "verdict": r.verdict,
        }
        for number, ratios in enumerate(found, start=1)
        for arm, r in zip(arms, ratios, strict=True)
    ]
    return Table(f"{COMPARISONS} comparisons of {ROUNDS} rounds", rows, "Expected: 1, 1/1.05 = 0.952, 1/1.10 = 0.909.")


def simulated_table(rows: Sequence[dict[str, float | int]], spread: Spread) -> Table:
    """Show what size of change can be found with how many rounds."""
    note = (
        f"{SIMULATED:,} simulated comparisons without a change and {SIMULATED_CHANGES:,} with each, at the spread "
        f"found here: {spread.shared:.2%} shared by the runs of a round and {spread.own:.2%} of a run's own."
    )
    return Table("What this machine can find", rows, note)
