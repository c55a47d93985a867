"""The verdict on a claim from records: one rule, by the same conditions for both answers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.environment.circumstances import summarize_machine_and_software
from bench.experiment.recipes import AS_RELEASED
from bench.experiment.settings import strip_bracketed_settings
from bench.features.claims.claims import SpeedClaim
from bench.features.claims.conditions import list_unmet_conditions
from bench.measure.comparison_records import reason_not_comparable
from bench.measure.summary import summarize_throughputs
from bench.records.record import Record, ReleasedRun, Speed
from bench.statistics.ratios import RateRatio, compare_rates
from bench.tables.formats import format_bracketed_interval, format_ratio
from bench.tables.groups import group_by

OUR_CODE = "this project's code"
TOLERANCE = math.log(1.1)  # of the log of a published ratio, which has two digits
DECIDED_BY = "by the authors' step on one A100, with this project's loader"
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
    code: str  # repository and commit of the timed code
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
    if not evidence:
        detail = f"no comparison timed both {claim.baseline} and {claim.experiment} on one machine with equal software"
        return JudgedClaim(claim, evidence, "not decided", detail)
    if evidence[0].unmet_conditions:
        detail = "; ".join(evidence[0].unmet_conditions)
        return JudgedClaim(claim, evidence, "not decided", detail)
    ratio = evidence[0].ratio
    if ratio.low is None or ratio.high is None or ratio.verdict == "inconclusive":
        detail = "the ratio of images/s is inconclusive by the rule for measured speeds"
        return JudgedClaim(claim, evidence, "not decided", detail)
    smallest_factor, largest_factor = claim.single_gpu_factors
    low = ratio.low * smallest_factor
    high = ratio.high * largest_factor
    verdict, relation = _compare_with_published(claim.published_speed_ratio, low, high)
    interval = format_bracketed_interval(ratio, format_ratio)
    detail = (
        f"{format_ratio(ratio.value)}{interval} times CLIP's images/s {DECIDED_BY}; with modelled communication "
        f"{format_ratio(low)} to {format_ratio(high)}, {relation}"
    )
    return JudgedClaim(claim, evidence, verdict, detail)


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
    """Return the evidence of each comparison that timed both experiments on one machine with equal software.

    Runs of the authors' code and of this project's code are separate evidence. The order is as in `JudgedClaim`.
    """
    evidence = []
    groups = group_by(records, lambda record: record.comparison)
    for comparison in sorted(groups, reverse=True):
        for kind in (ReleasedRun, Speed):
            runs = [record for record in groups[comparison] if isinstance(record.measured, kind)]
            baseline = [record for record in runs if _is_run_of_experiment(record, claim.baseline)]
            experiment = [
                record for record in runs if _is_run_of_experiment(record, claim.experiment)
            ]
            both = [*baseline, *experiment]
            if not baseline or not experiment or reason_not_comparable(both) is not None:
                continue
            ratio = _compare_speeds(baseline, experiment)
            if ratio is None:
                continue
            code = _describe_timed_code(baseline[0])
            machine = summarize_machine_and_software(baseline[0].circumstances)
            unmet_conditions = list_unmet_conditions(claim, both)
            evidence.append(RatioEvidence(comparison, code, machine, ratio, unmet_conditions))
    return sorted(evidence, key=lambda candidate: len(candidate.unmet_conditions))


def _describe_timed_code(record: Record) -> str:
    """Return the repository and the commit of the code that a record timed."""
    run = record.measured
    return f"{run.repository} at {run.commit[:7]}" if isinstance(run, ReleasedRun) else OUR_CODE


def _is_run_of_experiment(record: Record, name: str) -> bool:
    """Return whether a record is of the named experiment with any settings, but with its own tower."""
    run = record.measured
    has_other_tower = isinstance(run, ReleasedRun) and run.has_changed_tower_size
    run_name = strip_bracketed_settings(record.experiment_name).removesuffix(AS_RELEASED)
    return run_name == name and not has_other_tower


def _compare_speeds(baseline: Sequence[Record], experiment: Sequence[Record]) -> RateRatio | None:
    """Return the images/s of the experiment over those of the baseline, over rounds; None if it was not measured."""
    baseline_rates = _released_rates_by_round(baseline)
    experiment_rates = _released_rates_by_round(experiment)
    if baseline_rates and experiment_rates:
        return compare_rates(baseline_rates, experiment_rates)
    names = [baseline[0].experiment_name, experiment[0].experiment_name]
    return summarize_throughputs([*baseline, *experiment], names, names[0])[1].ratio


def _released_rates_by_round(records: Sequence[Record]) -> dict[int, float]:
    """Return the images/s of the runs of released code, by round."""
    runs = [record.measured for record in records]
    return {run.round: run.images_per_second for run in runs if isinstance(run, ReleasedRun)}
