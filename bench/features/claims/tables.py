"""Claims as tables and text for the terminal. Equal records give equal text."""

from collections.abc import Sequence

from bench.console.console import PROGRAM
from bench.features.claims.claims import PUBLISHED_FIGURES, SpeedClaim
from bench.features.claims.conditions import CONDITIONS
from bench.features.claims.verdict import RULES, JudgedClaim, format_speed_ratio
from bench.tables.formats import format_count_with_noun, format_ratio
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


def claim_list_tables(judged_claims: Sequence[JudgedClaim]) -> list[Table]:
    """Return the table of claims with their verdicts, and the table of figures that are not judged."""
    claims = []
    for judged in judged_claims:
        measured = "-"
        if judged.evidence:
            first = judged.evidence[0]
            measured = format_speed_ratio(first.ratio)
            if first.unmet_conditions:
                measured += ": decides nothing"
        row = {
            "claim": judged.claim.name,
            "published": describe_published_hours(judged.claim),
            "counted: CLIP's forward FLOPs over CatLIP's": format_range(
                *judged.claim.padded_flop_ratios
            ),
            "measured": measured,
            "verdict": judged.verdict_sentence,
        }
        claims.append(row)
    figures = []
    for figure in PUBLISHED_FIGURES:
        ratio = figure.flop_ratio
        counted = "-" if ratio is None else f"{1 / ratio.value:.4g} ({ratio.description})"
        row = {
            "title": figure.title,
            "published": figure.published,
            "counted: forward FLOPs, method over baseline": counted,
            "source": figure.source,
        }
        figures.append(row)
    return [
        Table.from_dicts("Claims of papers", claims, f"One claim in full: {PROGRAM} claim NAME"),
        Table.from_dicts("Published, counted, not judged", figures),
    ]


def describe_judged_claim(judged: JudgedClaim) -> str:
    """Return a claim with its source, its verdict, the conditions, the rule and the commands that decide it."""
    claim = judged.claim
    return CLAIM_TEXT.format(
        claim=claim,
        verdict=judged.verdict_sentence,
        published=describe_published_hours(claim),
        factors=" to ".join(map(str, claim.single_gpu_factors)),
        conditions="\n".join(f"- {sentence}" for sentence in CONDITIONS),
        rule="\n".join(f"- {sentence}" for sentence in RULES),
        commands="\n".join(claim.commands),
    )


def flop_and_evidence_tables(judged: JudgedClaim) -> list[Table]:
    """Return the tables of a claim's counted FLOPs and of its evidence."""
    published = judged.claim.published_speed_ratio
    counted = [
        {
            "FLOPs of the baseline's forward over the other's": ratio.description,
            "ratio": round(ratio.value, 4),
            "rest of the published ratio": round(published / ratio.value, 2),
        }
        for ratio in judged.claim.flop_ratios
    ]
    evidence_rows = [
        {
            "measured (95 %)": format_speed_ratio(evidence.ratio),
            "runs": f"{format_count_with_noun(min(evidence.ratio.runs), 'run')} each",
            "machine": evidence.machine,
            "records": evidence.comparison,
            "conditions that are not met": "; ".join(evidence.unmet_conditions) or "none",
        }
        for evidence in judged.evidence
    ]
    return [
        Table.from_dicts("Counted FLOPs", counted, REST_NOTE),
        Table.from_dicts("Evidence", evidence_rows, is_transposed=True),
    ]


def describe_published_hours(claim: SpeedClaim) -> str:
    """Return the published share of the baseline's GPU hours, and the ratio of speeds that it means, in words."""
    ratio = format_ratio(claim.published_speed_ratio)
    return (
        f"{claim.published:g} of CLIP's GPU hours; for equal images this is {ratio} times "
        "the images per GPU-hour"
    )


def format_range(low: float, high: float) -> str:
    """Write two ratios as a range: 1.17 to 1.45."""
    return f"{format_ratio(low)} to {format_ratio(high)}"
