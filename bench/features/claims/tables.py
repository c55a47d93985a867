"""Claims as tables and text for the terminal. Equal records give equal text."""

from collections.abc import Sequence

from bench.console.console import PROGRAM
from bench.features.claims.claims import PUBLISHED_FIGURES, Claim
from bench.features.claims.conditions import CONDITIONS
from bench.features.claims.verdict import RULES, Evidence, JudgedClaim
from bench.tables.formats import format_bracketed_interval, format_ratio, pluralize
from bench.tables.tables import Table

REST_NOTE = (
    "FLOPs predict hours at equal utilisation; they do not explain them. The rest is the published ratio over the "
    "counted one."
)
CLAIM_TEXT = """{claim.title}

{verdict}
Published: {published}.
"{claim.quote}"
Source: {claim.source}, {claim.where}; {claim.checked}.
Held fixed: {claim.held_fixed}.
Hardware: {claim.hardware}.
Modelled: communication multiplies the ratio by {factors}, for {claim.modelled_gpus} GPUs.

Conditions
{conditions}

Rule
{rule}

Commands that decide it
{commands}
"""


def claim_tables(judged: Sequence[JudgedClaim]) -> list[Table]:
    """Return the table of claims with their verdicts, and the table of figures that are not judged."""
    claims = [
        {
            "claim": judged_claim.claim.name,
            "published": describe_published_hours(judged_claim.claim),
            "counted: CLIP's forward FLOPs over CatLIP's": " to ".join(
                format_ratio(ratio.value) for ratio in judged_claim.claim.flop_ratios[1:]
            ),
            "measured": describe_newest_evidence(judged_claim.evidence),
            "verdict": judged_claim.sentence,
        }
        for judged_claim in judged
    ]
    figures = []
    for figure in PUBLISHED_FIGURES:
        ratio = figure.flop_ratio
        counted = "-" if ratio is None else f"{1 / ratio.value:.4g} ({ratio.description})"
        figures.append(
            {
                "title": figure.title,
                "published": figure.published,
                "counted: forward FLOPs, method over baseline": counted,
                "source": figure.source,
            }
        )
    return [
        Table.from_dicts("Claims of papers", claims, f"One claim in full: {PROGRAM} claim NAME"),
        Table.from_dicts("Published, counted, not judged", figures),
    ]


def claim_text(judged: JudgedClaim) -> str:
    """Return a claim with its verdict, its conditions, the rule and the commands that decide it."""
    claim = judged.claim
    return CLAIM_TEXT.format(
        claim=claim,
        verdict=judged.sentence,
        published=describe_published_hours(claim),
        factors=" to ".join(map(str, claim.missing_factor)),
        conditions="\n".join(
            f"{number}. {condition.description}" for number, condition in enumerate(CONDITIONS, 1)
        ),
        rule="\n".join(f"- {sentence}" for sentence in RULES),
        commands="\n".join(claim.commands),
    )


def evidence_tables(judged: JudgedClaim) -> list[Table]:
    """Return the tables of a claim's counted FLOPs and of its evidence."""
    claim = judged.claim
    counted = [
        {
            "FLOPs of the baseline's forward over the other's": ratio.description,
            "ratio": round(ratio.value, 4),
            "rest of the published ratio": round(claim.speed_ratio / ratio.value, 2),
        }
        for ratio in claim.flop_ratios
    ]
    evidence_rows = [
        {
            "code": evidence.code,
            "measured (95 %)": format_measured_ratio(evidence),
            "runs": f"{pluralize(min(evidence.ratio.runs), 'run')} each",
            "machine": evidence.machine,
            "records": evidence.comparison,
            "conditions that are not met": "; ".join(evidence.unmet) or "none",
        }
        for evidence in judged.evidence
    ]
    return [
        Table.from_dicts("Counted FLOPs", counted, REST_NOTE),
        Table.from_dicts("Evidence", evidence_rows, is_transposed=True),
    ]


def describe_published_hours(claim: Claim) -> str:
    """Write the published share of hours, and the ratio of speeds that it means for equal images."""
    return (
        f"{claim.published:g} of CLIP's GPU hours; for equal images this is {format_ratio(claim.speed_ratio)} times "
        "the images per GPU-hour"
    )


def describe_newest_evidence(evidence: Sequence[Evidence]) -> str:
    """Write the ratio of the first evidence, and whether it misses conditions; "-" without evidence."""
    if not evidence:
        return "-"
    ratio = format_measured_ratio(evidence[0])
    return f"{ratio}: decides nothing" if evidence[0].unmet else ratio


def format_measured_ratio(evidence: Evidence) -> str:
    """Write the ratio of speeds with its interval."""
    interval = format_bracketed_interval(evidence.ratio, format_ratio) or " (no interval)"
    return f"{format_ratio(evidence.ratio.value)}{interval}"
