"""The verdict on a claim from records: one rule, by the same conditions for both answers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.environment.circumstances import summarize_machine
from bench.experiment.recipes import AS_RELEASED
from bench.experiment.settings import strip_settings_suffix
from bench.features.claims.claims import Claim
from bench.features.claims.conditions import list_unmet_conditions
from bench.measure.comparison_records import reason_incomparable
from bench.measure.summary import summarize_throughputs
from bench.records.record import Record, ReleasedRun, Speed
from bench.statistics.ratios import Ratio, compare_rates
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
class Evidence:
    """The runs of both experiments of a claim in one comparison, with the conditions that they miss."""

    comparison: str
    code: str  # repository and commit of the timed code
    machine: str
    ratio: Ratio  # of images/s
    unmet: Sequence[str]


@dataclass(frozen=True, slots=True)
class JudgedClaim:
    """A claim with its evidence and its verdict; `detail` says by what, or why not."""

    claim: Claim
    evidence: Sequence[Evidence]  # what meets all conditions first, then the newest first
    verdict: ClaimVerdict
    detail: str

    @property
    def sentence(self) -> str:
        """The verdict as a sentence."""
        return f"{self.verdict.capitalize()}: {self.detail}."


def judge_claim(claim: Claim, records: Sequence[Record]) -> JudgedClaim:
    """Judge a claim by records; the rule in words is `RULES`."""
    evidence = find_evidence(claim, records)
    if not evidence:
        detail = f"no comparison timed both {claim.baseline} and {claim.experiment} on one machine with equal software"
        return JudgedClaim(claim, evidence, "not decided", detail)
    if evidence[0].unmet:
        return JudgedClaim(claim, evidence, "not decided", "; ".join(evidence[0].unmet))
    ratio = evidence[0].ratio
    if ratio.low is None or ratio.high is None or ratio.verdict == "inconclusive":
        detail = "the ratio of images/s is inconclusive by the rule for measured speeds"
        return JudgedClaim(claim, evidence, "not decided", detail)
    verdict, detail = _compare_with_published(claim, ratio, ratio.low, ratio.high)
    return JudgedClaim(claim, evidence, verdict, detail)


def _compare_with_published(
    claim: Claim, ratio: Ratio, low: float, high: float
) -> tuple[ClaimVerdict, str]:
    """Return the verdict by a ratio with its interval, after the modelled communication, and the reason in words."""
    low *= claim.missing_factor[0]
    high *= claim.missing_factor[1]
    interval = format_bracketed_interval(ratio, format_ratio)
    measured = (
        f"{format_ratio(ratio.value)}{interval} times CLIP's images/s {DECIDED_BY}; with modelled communication "
        f"{format_ratio(low)} to {format_ratio(high)}"
    )
    published = f"the published {format_ratio(claim.speed_ratio)}"
    is_low_near = abs(math.log(low / claim.speed_ratio)) <= TOLERANCE
    is_high_near = abs(math.log(high / claim.speed_ratio)) <= TOLERANCE
    if is_low_near and is_high_near:
        return "reproduced", f"{measured}, within 10 % of {published}"
    if is_low_near or is_high_near or low < claim.speed_ratio < high:
        return "not decided", f"{measured}, which is within 10 % of {published} only in part"
    side = "above" if low > claim.speed_ratio else "below"
    return "not reproduced", f"{measured}, {side} {published}"


def find_evidence(claim: Claim, records: Sequence[Record]) -> list[Evidence]:
    """Return the evidence of each comparison that timed both experiments on one machine with equal software.

    Runs of the authors' code and of this project's code are evidence of their own.
    """
    evidence = []
    groups = group_by(records, lambda record: record.comparison)
    for comparison in sorted(groups, reverse=True):
        for kind in (ReleasedRun, Speed):
            runs = [record for record in groups[comparison] if isinstance(record.measured, kind)]
            sides = [
                [record for record in runs if _is_run_of(record, name)]
                for name in (claim.baseline, claim.experiment)
            ]
            if not all(sides) or reason_incomparable([*sides[0], *sides[1]]) is not None:
                continue
            ratio = _ratio_of_speeds(*sides)
            if ratio is not None:
                first = sides[0][0]
                run = first.measured
                code = OUR_CODE
                if isinstance(run, ReleasedRun):
                    code = f"{run.repository} at {run.commit[:7]}"
                machine = summarize_machine(first.circumstances)
                unmet = list_unmet_conditions(claim, [*sides[0], *sides[1]])
                evidence.append(Evidence(comparison, code, machine, ratio, unmet))
    return sorted(evidence, key=lambda comparison_evidence: len(comparison_evidence.unmet))


def _is_run_of(record: Record, name: str) -> bool:
    """Return whether a record is of an experiment with any settings, and not of another tower."""
    run = record.measured
    has_other_tower = isinstance(run, ReleasedRun) and run.has_changed_tower_size
    run_name = strip_settings_suffix(record.experiment_name).removesuffix(AS_RELEASED)
    return run_name == name and not has_other_tower


def _ratio_of_speeds(baseline: Sequence[Record], experiment: Sequence[Record]) -> Ratio | None:
    """Return the ratio of images per second, by round."""
    rates = [
        {
            record.measured.round: record.measured.images_per_second
            for record in records
            if isinstance(record.measured, ReleasedRun)
        }
        for records in (baseline, experiment)
    ]
    if all(rates):
        return compare_rates(*rates)
    names = [baseline[0].experiment_name, experiment[0].experiment_name]
    return summarize_throughputs([*baseline, *experiment], names, names[0])[1].ratio
