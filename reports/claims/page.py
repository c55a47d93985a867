"""A claim's card as an HTML page, as Markdown and as a JSON document; equal cards give equal bytes."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from markupsafe import Markup

from bench.console.console import PROGRAM
from bench.statistics import CLAIM_RULE, Estimate
from reports.claims.card import Basis, ClaimCard, RatioFactor
from reports.claims.sentences import commands, describe_speed_ratio, summarize, to_sentence
from reports.explanation import draw_ratio_bar, scale_ratios
from reports.render.document import render_template
from reports.render.formats import INTERVAL, format_interval, ratio
from reports.render.svg import MUTED, SERIES, svg
from reports.render.tables import Cell, Column, HtmlTable
from reports.speed.charts import NARROWEST, row_chart

STYLES: dict[Basis, tuple[str, str]] = {  # colour and hatch of a bar
    "measured": (SERIES[0], ""),
    "predicted": (SERIES[2], "////"),
    "unexplained": (SERIES[3], "...."),
}
MARKED_SYNTAX = re.compile(r"([\\`*_{}\[\]<>|#])")


def claim_page(card: ClaimCard) -> str:
    """Return the card as an HTML page."""
    return render_template(
        "claim.html",
        card=card,
        verdict=to_sentence(card.judgement.text),
        summary=summarize(card),
        chart=waterfall_chart(card) if card.factors else None,
        factors=_factors_table(card) if card.factors else None,
        pairs=_pairs_table(card) if card.measured else None,
        rule=CLAIM_RULE,
        facts=_facts(card),
        commands=commands(card),
    )


def claim_line(card: ClaimCard) -> Markup:
    """Return the card in one paragraph, for the page of a comparison."""
    return Markup(
        "<strong>At ViT-B/16 as published:</strong> {}. {} <strong>{}</strong> (<code>{} claim {}</code>)"
    ).format(
        card.claim.title + describe_speed_ratio(card),
        " ".join(summarize(card)[1:]),
        to_sentence(card.judgement.text),
        PROGRAM,
        card.claim.name,
    )


def claim_markdown(card: ClaimCard) -> str:
    """Return the card in Markdown."""
    lines = [
        f"# {_plain(card.claim.title)}",
        f"**{to_sentence(_plain(card.judgement.text))}**",
        *map(_plain, summarize(card)),
        f"> {_plain(card.claim.quote)}\n>\n> {_plain(f'{card.claim.source}, {card.claim.where}')}",
    ]
    if card.factors:
        lines += ["## From 1 to the published ratio", _markdown_table(_factors_table(card))]
    if card.measured:
        lines += ["## Measured pairs", _markdown_table(_pairs_table(card))]
    lines += ["## The claim", "\n".join(f"- {name}: {_plain(text)}" for name, text in _facts(card).items())]
    rule = (f"{number}. {point}" for number, point in enumerate(CLAIM_RULE[1:], 1))
    lines += ["## The rule of the verdict", CLAIM_RULE[0], "\n".join(rule)]
    lines += ["## A record that settles it", "```\n" + "\n".join(commands(card)) + "\n```"]
    return "\n\n".join(lines) + "\n"


def claim_document(card: ClaimCard) -> dict[str, Any]:
    """Return the card as a JSON document, at full precision."""
    pairs = [
        {
            "pair": name,
            "baseline": pair[0],
            "experiment": pair[1],
            **{end: getattr(card.in_unit(found.effect), end) for end in ("value", "low", "high")},
            "repetition": found.repetitions,
            "machine": found.fingerprint,
            "comparison": found.comparison,
            "records": found.digest,
            "disturbed": found.is_disturbed,
            "changed": found.changed_settings,
        }
        for name, pair, found in card.measured
    ]
    return {
        "claim": msgspec.to_builtins(card.claim),
        "unit": card.claim.unit,
        "published_speed_ratio": card.claim.speed_ratio,
        "predicted_speed_ratios": msgspec.to_builtins(card.prediction),
        "counted": card.counted,
        "measured": pairs,
        "ladder": msgspec.to_builtins(list(card.factors)),
        "verdict": card.judgement.verdict,
        "detail": card.judgement.detail,
        "rule": list(CLAIM_RULE),
    }


def waterfall_chart(card: ClaimCard) -> Markup:
    """Draw each factor as a bar that starts at the end of the previous one, from 1 to the published ratio."""
    assert card.claim.speed_ratio is not None
    with row_chart(len(card.factors) + 1) as (figure, axes):
        axes.set_xscale("log")
        axes.axvline(1, color=MUTED, linewidth=1)
        reached, ends = 1.0, [*NARROWEST]
        for row, one in enumerate(card.factors):
            label = "unexplained" if one.basis == "unexplained" else one.cause
            ends += draw_ratio_bar(axes, row, label, reached, _estimate(one), *STYLES[one.basis])
            reached *= one.value
        whole = Estimate(card.claim.speed_ratio, None, None, "")
        ends += draw_ratio_bar(axes, len(card.factors), "published", 1.0, whole, SERIES[1])
        scale_ratios(axes, ends)
        axes.set_xlabel("times the baseline's images per GPU-second")
        factors = "; ".join(f"{one.cause}, {one.basis}, {ratio(one.value)}" for one in card.factors)
        return svg(figure, "claim", f"Factors of the published ratio {ratio(whole.value)}: {factors}.")


def _facts(card: ClaimCard) -> dict[str, str]:
    claim = card.claim
    controlled = " and ".join(claim.controlled) if claim.controlled else "the same: they differ in the method alone"
    facts = {
        "source": f"{claim.source}, {claim.where}",
        "checked": claim.checked,
        "held fixed": claim.held_fixed,
        "hardware": claim.hardware,
        "published pair": " and ".join(claim.experiments),
        "controlled pair": controlled,
        "settings of both": ", ".join(claim.settings),
    }
    return {name: text for name, text in facts.items() if text}


def _factors_table(card: ClaimCard) -> HtmlTable:
    columns = [
        Column.text("factor"),
        Column("ratio", f"{INTERVAL} interval"),
        Column("reached"),
        *Column.texts("basis", "source"),
    ]
    rows, reached = [], 1.0
    for one in card.factors:
        reached *= one.value
        found = Cell.of(one.value, ratio, format_interval(_estimate(one), ratio))
        rows.append([Cell(one.cause), found, Cell.of(reached, ratio), Cell(one.basis), Cell(one.source)])
    return HtmlTable.of_rows("Factors of the published ratio", columns, rows)


def _pairs_table(card: ClaimCard) -> HtmlTable:
    columns = [
        *Column.texts("pair"),
        Column("measured", f"{INTERVAL} interval"),
        *Column.texts("repetition", "machine", "records", "settings that differ from the recipe’s"),
    ]
    rows = []
    for name, pair, found in card.measured:
        estimate = card.in_unit(found.effect)
        cell = Cell.of(estimate.value, ratio, format_interval(estimate, ratio) or "no interval")
        source = Cell(found.comparison or "several comparisons", f"sha256 {found.digest}")
        texts = map(Cell, (found.repetitions, found.fingerprint))
        rows.append([Cell(name, " and ".join(pair)), cell, *texts, source, Cell(found.changed_settings)])
    return HtmlTable.of_rows("Measured pairs", columns, rows)


def _markdown_table(table: HtmlTable) -> str:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    rows = [[_plain(f"{cell.text} ({cell.note})" if cell.note else cell.text) for cell in row] for row in table.rows]
    head = [column.title for column in table.columns]
    return "\n".join([line(head), line(["---"] * len(head)), *map(line, rows)])


def _plain(text: str) -> str:
    """Escape a text of a record or a claim for Markdown, on one line."""
    return MARKED_SYNTAX.sub(r"\\\1", " ".join(text.split()))


def _estimate(one: RatioFactor) -> Estimate:
    return Estimate(one.value, one.low, one.high, "")
