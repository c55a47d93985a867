"""The verdict on a claim from records: one rule, by the same conditions for both answers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.environment.circumstances import summarize_machine_and_software
from bench.experiment.config import FIELDS
from bench.experiment.recipes import ADAPTED
from bench.experiment.settings import strip_bracketed_settings
from bench.features.claims.claims import SpeedClaim
from bench.features.claims.conditions import list_unmet_conditions
from bench.measure.throughput import reason_not_comparable
from bench.records.record import TOWER_KEY, Record, ReleasedRun
from bench.statistics.ratios import RateRatio, compare_rates
from bench.tables.formats import format_interval, format_ratio
from bench.tables.groups import group_by

TOLERANCE = math.log(1.1)  # of the log of a published ratio, which has two digits
ClaimVerdict = Literal["reproduced", "not reproduced", "not decided"]
RULES = (
    "Evidence decides if it meets all conditions, whatever it shows; of several the newest decides.",
    "If none does, the claim is not decided, and the conditions that are not met are named.",
    "A speed on one GPU lacks communication and the captions of other GPUs; a model gives factors for them.",
    "The lower end of the 95 % interval is multiplied by the smallest factor, and the upper end by the largest.",
    "Reproduced: this whole interval is within 10 % of the published ratio.",
    "Not reproduced: this whole interval is farther away than that.",
    "Not decided: anything else, also a ratio that is inconclusive by the rule for measured speeds.",
    "The verdict is on the speed of the training step. Accuracy is not tested.",
)


@dataclass(frozen=True, slots=True)
class RatioEvidence:
    """The speed ratio of a claim's experiments in one comparison, with the conditions that its runs do not meet."""

    comparison: str
    machine: str
    ratio: RateRatio  # images/s of the experiment over those of the baseline
    unmet_conditions: Sequence[str]  # in words


@dataclass(frozen=True, slots=True)
class JudgedClaim:
    """A claim with its evidence and its verdict."""

    claim: SpeedClaim
    evidence: Sequence[RatioEvidence]  # by the number of unmet conditions, then the newest first
    verdict: ClaimVerdict
    detail: str  # the ratios that decide, or why none does

    @property
    def verdict_sentence(self) -> str:
        """The verdict with its detail, as a sentence."""
        return f"{self.verdict.capitalize()}: {self.detail}."


def judge_claim(claim: SpeedClaim, records: Sequence[Record]) -> JudgedClaim:
    """Judge a claim by the evidence in the records; `RULES` states the rule."""
    evidence = find_ratio_evidence(claim, records)
    verdict, detail = _decide(claim, evidence)
    return JudgedClaim(claim, evidence, verdict, detail)


def _decide(claim: SpeedClaim, evidence: Sequence[RatioEvidence]) -> tuple[ClaimVerdict, str]:
    """Return the verdict on a claim by its first evidence, with the detail of `JudgedClaim`."""
    if not evidence:
        detail = (
            f"no comparison timed the authors' code with both {claim.baseline} and {claim.experiment} on one machine "
            "with equal software"
        )
        return "not decided", detail
    if evidence[0].unmet_conditions:
        return "not decided", "; ".join(evidence[0].unmet_conditions)
    ratio = evidence[0].ratio
    if ratio.low is None or ratio.high is None or ratio.verdict == "inconclusive":
        return (
            "not decided",
            "the ratio of images/s is inconclusive by the rule for measured speeds",
        )
    smallest_factor, largest_factor = claim.single_gpu_factors
    low = ratio.low * smallest_factor
    high = ratio.high * largest_factor
    verdict, relation = _compare_with_published(claim.published_speed_ratio, low, high)
    detail = (
        f"{format_speed_ratio(ratio)} times CLIP's images/s by the authors' step on one A100, with this project's "
        f"loader; with modelled communication {format_ratio(low)} to {format_ratio(high)}, {relation}"
    )
    return verdict, detail


def format_speed_ratio(ratio: RateRatio) -> str:
    """Write a ratio of speeds with its interval."""
    interval = format_interval(ratio, format_ratio) or "no interval"
    return f"{format_ratio(ratio.value)} ({interval})"


def _compare_with_published(
    published_ratio: float, low: float, high: float
) -> tuple[ClaimVerdict, str]:
    """Return the verdict on an interval of speed ratios, and how it lies to the published ratio, in words."""
    published = f"the published {format_ratio(published_ratio)}"
    is_low_near = abs(math.log(low / published_ratio)) <= TOLERANCE
    is_high_near = abs(math.log(high / published_ratio)) <= TOLERANCE
    if is_low_near and is_high_near:
        return "reproduced", f"within 10 % of {published}"
    if is_low_near or is_high_near or low < published_ratio < high:
        return "not decided", f"which is within 10 % of {published} only in part"
    side = "above" if low > published_ratio else "below"
    return "not reproduced", f"{side} {published}"


def find_ratio_evidence(claim: SpeedClaim, records: Sequence[Record]) -> list[RatioEvidence]:
    """Return the evidence of each comparison that timed the authors' code with both recipes on one machine.

    The order is as in `JudgedClaim`. Runs of a tower of another size are left out.
    """
    runs_by_comparison = group_by(
        filter(_is_of_released_tower, records), lambda record: record.comparison
    )
    evidence = []
    for comparison in sorted(runs_by_comparison, reverse=True):
        runs = group_by(runs_by_comparison[comparison], _recipe_name)
        baseline = runs.get(claim.baseline, [])
        experiment = runs.get(claim.experiment, [])
        both = [*baseline, *experiment]
        if not baseline or not experiment or reason_not_comparable(both, may_differ=FIELDS):
            continue
        evidence.append(
            RatioEvidence(
                comparison=comparison,
                machine=summarize_machine_and_software(both[0].circumstances),
                ratio=compare_rates(_rates_by_round(baseline), _rates_by_round(experiment)),
                unmet_conditions=list_unmet_conditions(claim, both),
            )
        )
    return sorted(evidence, key=lambda candidate: len(candidate.unmet_conditions))


def _is_of_released_tower(record: Record) -> bool:
    """Return whether a record is of the authors' code, with the size of the tower in the released file."""
    return isinstance(record.measured, ReleasedRun) and TOWER_KEY not in record.measured.changed


def _recipe_name(record: Record) -> str:
    """Return the name of the recipe of a run, without changed settings."""
    return strip_bracketed_settings(record.experiment_name).removesuffix(ADAPTED)


def _rates_by_round(records: Sequence[Record]) -> dict[int, float]:
    """Return the images/s of the runs of the authors' code, by round."""
    runs = [record.measured for record in records]
    return {run.round: run.images_per_second for run in runs if isinstance(run, ReleasedRun)}
