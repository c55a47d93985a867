"""The verdict on a claim: one rule, by the same conditions for both answers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bench.features.claims.claims import Claim
from bench.features.claims.conditions import IMAGENET, unmet_by
from bench.features.claims.evidence import Evidence, find_accuracy_evidence, find_speed_evidence
from bench.records.record import Record
from bench.statistics.intervals import Interval

ClaimVerdict = Literal["reproduced", "not reproduced", "not decided"]
RULE = (
    (
        "Evidence decides if it meets all conditions of the claim, whatever it shows; of several the newest decides. "
        "If none does, the claim is not decided, and the conditions that are not met are named."
    ),
    (
        "Reproduced: the whole 95 % interval is within 10 % of the published ratio, or within one point of the "
        "published difference of accuracies."
    ),
    "Not reproduced: the whole interval is farther away than that.",
    "Not decided: anything else.",
    (
        "A speed on one GPU lacks communication and the captions of other GPUs. The lower end of the interval is "
        "multiplied by the smallest factor that a model gives for them, and the upper end by the largest."
    ),
)


@dataclass(frozen=True, slots=True)
class JudgedEvidence:
    """Evidence with the conditions of the claim that it misses."""

    evidence: Evidence
    unmet: Sequence[str]


@dataclass(frozen=True, slots=True)
class JudgedClaim:
    """A claim with its evidence and its verdict; `detail` says by what, or why not."""

    claim: Claim
    evidence: Sequence[JudgedEvidence]  # what meets all conditions first, then the newest first
    verdict: ClaimVerdict
    detail: str

    @property
    def sentence(self) -> str:
        """The verdict as a sentence."""
        return f"{self.verdict.capitalize()}: {self.detail}."


def judge_claim(claim: Claim, records: Sequence[Record]) -> JudgedClaim:
    """Judge a claim by records, or by its count; the rule in words is `RULE`."""
    if claim.kind == "FLOPs":
        counted = math.log(claim.counted_percent)
        return JudgedClaim(
            claim, [], compare(claim, Interval(counted, counted, counted)), claim.decided_by
        )
    if claim.kind == "speed":
        evidence = find_speed_evidence(claim.baseline, claim.experiment, records)
    else:
        evidence = find_accuracy_evidence(claim.baseline, claim.experiment, IMAGENET, records)
    newest_first = sorted(evidence, key=lambda one: one.comparison, reverse=True)
    judged = [JudgedEvidence(one, unmet_by(claim.conditions, one)) for one in newest_first]
    judged.sort(key=lambda one: len(one.unmet))
    if not judged:
        return JudgedClaim(
            claim,
            judged,
            "not decided",
            f"no record has both {claim.baseline} and {claim.experiment}",
        )
    if judged[0].unmet:
        return JudgedClaim(claim, judged, "not decided", "; ".join(judged[0].unmet))
    verdict = compare(claim, judged[0].evidence.effect)
    detail = claim.decided_by
    if verdict == "not decided":
        detail = "a part of the interval agrees with the published figure, and a part does not"
    return JudgedClaim(claim, judged, verdict, detail)


def compare(claim: Claim, effect: Interval) -> ClaimVerdict:
    """Compare an interval that meets all conditions with the published figure."""
    smallest, largest = claim.missing_factor
    low = effect.low + math.log(smallest) - claim.figure
    high = effect.high + math.log(largest) - claim.figure
    if max(-low, high) <= claim.tolerance:
        return "reproduced"
    if low > claim.tolerance or high < -claim.tolerance:
        return "not reproduced"
    return "not decided"
