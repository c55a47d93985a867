"""Claims on a terminal, on an HTML page, in Markdown and in JSON. Equal records give equal bytes."""

import math
from collections.abc import Sequence
from typing import Any

import msgspec
from markupsafe import Markup

from bench.console.console import PROGRAM
from bench.features.claims.claims import PUBLISHED_FIGURES, Claim, FlopRatio
from bench.features.claims.evidence import Evidence
from bench.features.claims.verdict import RULE, JudgedClaim
from bench.interfaces.sections import Block, Code, Facts, ItemList, Quote, Text
from bench.statistics.accuracies import Estimate
from bench.tables.formats import format_bracketed_interval, format_ratio
from bench.tables.tables import Table, escape_markdown
from reports.render.document import BuiltSection, render_blocks, render_page
from reports.render.markdown import blocks_to_markdown

REST_NOTE = (
    "FLOPs predict hours at equal utilisation; they do not explain them. The rest is the published ratio over the "
    "counted one."
)


def claim_tables(judged: Sequence[JudgedClaim]) -> list[Table]:
    """Return the table of claims with their verdicts, and the table of figures that are not measured."""
    claims = [
        {
            "claim": one.claim.name,
            "published": describe_published(one.claim),
            "counted FLOPs": _describe_counted(one.claim),
            "measured": format_effect(one.evidence[0].evidence) if one.evidence else "-",
            "verdict": one.sentence,
        }
        for one in judged
    ]
    figures = [
        {
            "title": figure.title,
            "published": figure.published,
            "counted: FLOPs over the baseline's": _describe_flop_ratio(figure.flop_ratio),
            "source": figure.source,
        }
        for figure in PUBLISHED_FIGURES
    ]
    return [
        Table.of_figures(
            "Claims of papers", claims, f"One claim in full: {PROGRAM} claim NAME --out FILE.html"
        ),
        Table.of_figures("Published, counted, not measured", figures),
    ]


def claim_page(judged: JudgedClaim) -> str:
    """Return a claim as an HTML page."""
    verdict, *others = claim_sections(judged).items()
    sections = [
        BuiltSection(f"part{number}", title, title, render_blocks(blocks))
        for number, (title, blocks) in enumerate(others, 1)
    ]
    return render_page(
        judged.claim.title,
        judged.claim.title,
        eyebrow=f"Claim {judged.claim.name} · {judged.claim.source}",
        answer=verdict[1],
        answer_label=verdict[0],
        sections=sections,
    )


def claim_markdown(judged: JudgedClaim) -> str:
    """Return a claim in Markdown."""
    paragraphs = [f"# {escape_markdown(judged.claim.title)}"]
    for title, blocks in claim_sections(judged).items():
        paragraphs += [f"## {title}", *blocks_to_markdown(blocks)]
    return "\n\n".join(paragraphs) + "\n"


def claim_sections(judged: JudgedClaim) -> dict[str, list[Block]]:
    """Return the blocks of a claim by their titles; the verdict comes first."""
    claim = judged.claim
    sections: dict[str, list[Block]] = {
        "The verdict": [
            Text(Markup("<strong>{}</strong>").format(judged.sentence), "lead"),
            Text(f"Published: {describe_published(claim)}."),
            Quote(claim.quote, f"{claim.source}, {claim.where}"),
        ]
    }
    if claim.flop_ratios:
        sections["Counted FLOPs"] = [_flops_table(claim)]
    if judged.evidence:
        sections["Evidence"] = [_evidence_table(judged)]
    if claim.conditions:
        sections["Conditions"] = [
            ItemList([condition.describe for condition in claim.conditions], "numbered")
        ]
    facts = {"held fixed": claim.held_fixed, "hardware": claim.hardware, "checked": claim.checked}
    sections["The claim"] = [Facts({name: [text] for name, text in facts.items()})]
    sections["The rule of the verdict"] = [ItemList(RULE)]
    sections["Commands that decide it"] = [Code(claim.commands)]
    return sections


def claim_document(judged: JudgedClaim) -> dict[str, Any]:
    """Return a claim as a JSON document, at full precision."""
    claim = judged.claim
    return {
        "claim": claim.name,
        "title": claim.title,
        "quote": claim.quote,
        "source": f"{claim.source}, {claim.where}",
        "published": claim.published,
        "unit": claim.unit,
        "counted_flop_ratios": {ratio.description: ratio.value for ratio in claim.flop_ratios},
        "conditions": [condition.describe for condition in claim.conditions],
        "evidence": [
            {
                **msgspec.to_builtins(to_estimate(one.evidence)),
                "repetition": one.evidence.repetition,
                "code": one.evidence.code,
                "machine": one.evidence.machine,
                "comparison": one.evidence.comparison,
                "records": one.evidence.digest,
                "unmet_conditions": list(one.unmet),
            }
            for one in judged.evidence
        ],
        "verdict": judged.verdict,
        "detail": judged.detail,
        "rule": list(RULE),
    }


def describe_published(claim: Claim) -> str:
    """Write the published value with its unit, and for hours the ratio of speeds that they mean."""
    text = f"{claim.published:g} {claim.unit}"
    if claim.kind == "speed":
        text += f", which is {format_ratio(claim.speed_ratio)} times the images per GPU-hour"
    return text


def to_estimate(evidence: Evidence) -> Estimate:
    """Return the effect as a ratio or in points of accuracy, without ends where it has none."""
    effect = evidence.effect
    has_ends = math.isfinite(effect.low) and math.isfinite(effect.high)
    low, high = (effect.low, effect.high) if has_ends else (None, None)
    if evidence.ratio is None:
        return Estimate(effect.value, low, high, "test images")
    return Estimate(evidence.ratio.value, evidence.ratio.low, evidence.ratio.high, "runs")


def format_effect(evidence: Evidence) -> str:
    """Write the effect with its interval."""
    estimate = to_estimate(evidence)
    return f"{format_ratio(estimate.value)}{format_bracketed_interval(estimate, format_ratio) or ' (no interval)'}"


def _flops_table(claim: Claim) -> Table:
    rows = []
    for ratio in claim.flop_ratios:
        row = {
            "FLOPs of the baseline's forward over the other's": ratio.description,
            "ratio": round(ratio.value, 4),
        }
        if claim.kind == "speed":
            row["rest of the published ratio"] = round(claim.speed_ratio / ratio.value, 2)
        rows.append(row)
    return Table.of_figures("Counted FLOPs", rows, REST_NOTE if claim.kind == "speed" else "")


def _evidence_table(judged: JudgedClaim) -> Table:
    rows = [
        {
            "code": one.evidence.code or "towers",
            "measured (95 %)": format_effect(one.evidence),
            "repetition": one.evidence.repetition,
            "machine": one.evidence.machine,
            "records": f"{one.evidence.comparison}, sha256 {one.evidence.digest}",
            "conditions that are not met": "; ".join(one.unmet) or "none",
        }
        for one in judged.evidence
    ]
    return Table.of_figures("Evidence", rows)


def _describe_counted(claim: Claim) -> str:
    if claim.kind == "FLOPs":
        return f"{claim.counted_percent:.3f} %"
    return " to ".join(format_ratio(ratio.value) for ratio in claim.flop_ratios[1:]) or "-"


def _describe_flop_ratio(ratio: FlopRatio | None) -> str:
    return "-" if ratio is None else f"{1 / ratio.value:.2f} ({ratio.description})"
