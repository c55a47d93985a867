"""A claim's card as an HTML page, as Markdown and as a JSON document, and the list of claims.

Equal cards give equal bytes.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from markupsafe import Markup

from bench.cli.verbs import VERBS
from bench.console.console import PROGRAM
from bench.features.claims.card import REST, Basis, ClaimCard, NamedEvidence
from bench.features.claims.claims import PaperClaim
from bench.features.claims.conditions import describe_conditions
from bench.features.claims.evidence import PairEvidence
from bench.features.claims.judgement import CLAIM_RULE
from bench.interfaces.sections import Block, Chart, Code, Facts, Group, ItemList, Key, Quote, Text
from bench.statistics.accuracies import Estimate
from bench.statistics.intervals import Interval
from bench.tables.formats import INTERVAL, NBSP, format_interval, format_ratio
from bench.tables.tables import Cell, Column, Table, escape_markdown
from reports.render.document import BuiltSection, render_blocks, render_page
from reports.render.markdown import blocks_to_markdown
from reports.render.svg import MUTED, SERIES, svg
from reports.speed.charts import NARROWEST, draw_ratio_bar, row_chart, scale_ratios

STYLES: dict[Basis, tuple[str, str]] = {  # colour and hatch of a bar
    "measured": (SERIES[0], ""),
    "counted": (SERIES[2], "////"),
    "unexplained": (SERIES[3], "...."),
}
EVIDENCE_COLUMNS = [
    *Column.texts("pair"),
    Column("measured", f"{INTERVAL} interval"),
    *Column.texts("repetition", "machine", "records"),
]
CORENET_SCALES = {"vit-b16": "catlip-2.7x", "vit-h16": "catlip-h16"}  # of `reference corenet`, with their claims


CHART_KEYS = (Key("■ measured", 1), Key("▨ counted", 3), Key("▨ not explained", 4), Key("■ published", 2))
CHART_NOTE = f"The axis is logarithmic, so that bars add up. Lines are 95{NBSP}% intervals."


def claim_page(card: ClaimCard, statement: Sequence[str] = ()) -> str:
    """Return the card as an HTML page; `statement` is that of `speed_statement` where it is on the claim."""
    sections = [
        BuiltSection(name, title, name.capitalize(), render_blocks(blocks))
        for (name, title), blocks in _sections(card).items()
    ]
    return render_page(
        card.claim.title,
        card.claim.title,
        eyebrow=f"Claim {card.claim.name} · {card.claim.source}",
        answer=_verdict_blocks(card, statement),
        answer_label="The verdict",
        sections=sections,
    )


def claim_markdown(card: ClaimCard, statement: Sequence[str] = ()) -> str:
    """Return the card in Markdown; `statement` is that of `speed_statement` where it is on the claim."""
    paragraphs = [f"# {escape_markdown(card.claim.title)}", *blocks_to_markdown(_verdict_blocks(card, statement))]
    for (_, title), blocks in _sections(card).items():
        paragraphs += [f"## {title}", *blocks_to_markdown(blocks)]
    return "\n\n".join(paragraphs) + "\n"


def _verdict_blocks(card: ClaimCard, statement: Sequence[str]) -> list[Block]:
    summary: list[Block] = [*map(Text, _summarize(card, is_counted=not statement))]
    summary.append(Quote(card.claim.quote, f"{card.claim.source}, {card.claim.where}"))
    charts = list[Chart]()
    if card.factors:
        charts.append(Chart(waterfall_chart(card), "From 1 to the published ratio", [CHART_NOTE], CHART_KEYS))
    return [
        Text(Markup("<strong>{}</strong>").format(to_sentence(card.judgement.verdict_clause)), "lead"),
        *([Text(" ".join(statement))] if statement else []),
        Group([Group(summary), *charts], "pair"),
    ]


def _sections(card: ClaimCard) -> dict[tuple[str, str], list[Block]]:
    """Return the blocks below the verdict, by their names and titles."""
    conditions, commands = describe_conditions(card.claim), _commands(card)
    found: dict[tuple[str, str], list[Block]] = {
        ("factors", "Factors of the published ratio"): [_factors_table(card)] if card.factors else [],
        ("pairs", "Measured pairs"): [_pairs_table(card)] if card.deciding else [],
        ("others", "Other evidence, which decides nothing"): [_others_table(card)] if card.others else [],
        ("conditions", "Conditions of a record that decides"): [ItemList(conditions)] if conditions else [],
        ("claim", "The claim"): [Facts({name: [text] for name, text in _facts(card).items()})],
        ("rule", "The rule of the verdict"): [Text(CLAIM_RULE[0]), ItemList(CLAIM_RULE[1:], "numbered")],
        ("commands", "A record that settles it" if card.claim.conditions else "To count it again"): (
            [Code(commands)] if commands else []
        ),
    }
    return {names: blocks for names, blocks in found.items() if blocks}


def claim_document(card: ClaimCard, statement: Sequence[str] = ()) -> dict[str, Any]:
    """Return the card as a JSON document, at full precision."""
    return {
        "statement": " ".join(statement),
        "claim": msgspec.to_builtins(card.claim),
        "unit": card.claim.unit,
        "published_speed_ratio": card.claim.speed_ratio,
        "predicted_speed_ratios": msgspec.to_builtins(card.prediction),
        "counted": card.counted,
        "clip_costs": list(card.clip_costs),
        "conditions": describe_conditions(card.claim),
        "measured": [_evidence_document(card, one) for one in card.deciding],
        "other_evidence": [_evidence_document(card, one) for one in card.others],
        "ladder": msgspec.to_builtins(list(card.factors)),
        "verdict": card.judgement.verdict,
        "detail": card.judgement.detail,
        "rule": list(CLAIM_RULE),
    }


def _evidence_document(card: ClaimCard, named: NamedEvidence) -> dict[str, Any]:
    found = named.evidence
    return {
        "pair": named.name,
        "baseline": named.pair[0],
        "experiment": named.pair[1],
        **{end: getattr(card.to_display_scale(found.effect), end) for end in ("value", "low", "high")},
        "repetition": found.repetitions,
        "machine": found.fingerprint,
        "comparison": found.comparison,
        "records": found.digest,
        "authors_code": found.code,
        "unmet_conditions": list(found.missed),
        "differs_from_the_paper": _differences(card, found),
    }


def waterfall_chart(card: ClaimCard) -> Markup:
    """Draw each factor as a bar that starts at the end of the previous one, from 1 to the published ratio."""
    assert card.claim.speed_ratio is not None
    with row_chart(len(card.factors) + 1) as (figure, axes):
        axes.set_xscale("log")
        axes.axvline(1, color=MUTED, linewidth=1)
        reached, ends = 1.0, [*NARROWEST]
        for row, one in enumerate(card.factors):
            ends += draw_ratio_bar(axes, row, one.cause, reached, one, *STYLES[one.basis])
            reached *= one.value
        whole = Estimate(card.claim.speed_ratio, None, None, "")
        ends += draw_ratio_bar(axes, len(card.factors), "published", 1.0, whole, SERIES[1])
        scale_ratios(axes, ends)
        axes.set_xlabel("times the baseline's images per GPU-second")
        factors = "; ".join(f"{one.cause}, {one.basis}, {format_ratio(one.value)}" for one in card.factors)
        return svg(figure, "claim", f"Factors of the published ratio {format_ratio(whole.value)}: {factors}.")


def _facts(card: ClaimCard) -> dict[str, str]:
    claim = card.claim
    controlled = (
        " and ".join(claim.controlled)
        if claim.controlled
        else "none is defined: the claim can be reproduced as published"
    )
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


def _factors_table(card: ClaimCard) -> Table:
    columns = [
        Column.text("factor"),
        Column("ratio", f"{INTERVAL} interval"),
        Column("reached"),
        *Column.texts("basis", "source"),
    ]
    rows, reached = [], 1.0
    for one in card.factors:
        reached *= one.value
        found = Cell.of(one.value, format_ratio, format_interval(one, format_ratio))
        rows.append([Cell(one.cause), found, Cell.of(reached, format_ratio), Cell(one.basis), Cell(one.source)])
    return Table.of_rows("Factors of the published ratio", columns, rows)


def _pairs_table(card: ClaimCard) -> Table:
    rows = [
        [*_evidence_cells(card, one), Cell("; ".join(_differences(card, one.evidence)) or "nothing")]
        for one in card.deciding
    ]
    return Table.of_rows("Measured pairs", [*EVIDENCE_COLUMNS, *Column.texts("differs from the paper in")], rows)


def _others_table(card: ClaimCard) -> Table:
    rows = [[*_evidence_cells(card, one), Cell("; ".join(one.evidence.missed))] for one in card.others]
    return Table.of_rows("Other evidence", [*EVIDENCE_COLUMNS, *Column.texts("conditions that it misses")], rows)


def _evidence_cells(card: ClaimCard, named: NamedEvidence) -> list[Cell]:
    found, estimate = named.evidence, card.to_display_scale(named.evidence.effect)
    value = Cell.of(estimate.value, format_ratio, format_interval(estimate, format_ratio) or "no interval")
    source = Cell(found.comparison or "several comparisons", f"sha256 {found.digest}")
    machine = Cell(found.fingerprint, f"code of {found.code}" if found.code else "")
    return [Cell(named.name, " and ".join(named.pair)), value, Cell(found.repetitions), machine, source]


def _differences(card: ClaimCard, found: PairEvidence) -> list[str]:
    """Return the circumstances that the conditions leave free and in which the runs differ from the paper's."""
    if card.claim.gpus is None or found.processes == card.claim.gpus:
        return []
    ours, paper = (" and ".join(map(str, one)) for one in (found.processes, card.claim.gpus))
    return [f"GPUs of the two experiments: {ours}, the paper's trainings had {paper}"]


def claims_table(cards: Sequence[ClaimCard]) -> Table:
    """List the claims, each with its predictions, its measured pairs and its verdict."""
    rows = [
        {
            "claim": card.claim.name,
            "published": _published(card.claim),
            "counted FLOPs": _short_prediction(card),
            "measured": "; ".join(f"{one.name} {_write(card, one.evidence.effect)}" for one in card.deciding) or "-",
            "other evidence": len(card.others),
            "verdict": card.judgement.verdict_clause,
        }
        for card in cards
    ]
    return Table.of_figures(
        "Claims of papers", rows, f"One claim in full: {PROGRAM} claim NAME --records FOLDER --out FILE.html"
    )


def _summarize(card: ClaimCard, *, is_counted: bool) -> list[str]:
    """Say what was published and measured, and if `is_counted` what was counted, one sentence each."""
    claim, prediction = card.claim, card.prediction
    sentences = [f"Published: {_published(claim)}{_describe_speed_ratio(card)}."]
    if is_counted and (claim.speed_ratio is not None or claim.metric == "zero-shot accuracy"):
        sizes = ""
        if prediction.released_sizes != prediction.equal_sizes:
            sizes = (
                f" at one image size and {format_ratio(prediction.released_sizes)} at the image sizes of each recipe"
            )
        sentences.append(
            f"Counted FLOPs give {format_ratio(prediction.equal_sizes)} times the baseline's images/s{sizes}."
        )
    if card.counted is not None:
        sentences.append(f"Counted here: {card.counted:.3f} {claim.unit}.")
    for one in card.deciding:
        found = one.evidence
        measured = f"{_write(card, found.effect)}, {found.repetitions}, on {found.machine}"
        sentences.append(f"Measured, the {one.name} pair: {measured}.")
    sentences += card.clip_costs
    if card.prediction.communication is not None and card.factors:
        least, largest = (f"{one:.3f}" for one in card.prediction.communication)
        sentences.append(
            f"The rest contains communication, for which a model gives a factor of {least} to {largest}, over networks "
            "of 1,600 to 100 Gbit/s a node and from this project's loss to the released one."
        )
    if is_counted and card.factors:
        sentences.append(
            f"A factor of {format_ratio(card.factors[-1].value)} is {REST} by anything counted or measured here."
        )
    return sentences


def _commands(card: ClaimCard) -> list[str]:
    """Return the command lines whose records would decide the claim, or that count what decides it."""
    claim = card.claim
    settings = "".join(f" --set {one}" for one in claim.settings)
    pairs = [pair for pair in (claim.experiments, claim.controlled) if pair is not None]
    if claim.conditions is None:  # zero-shot accuracy is not measured here
        return [f"{PROGRAM} list"] if claim.metric == "FLOPs" else []
    if claim.metric == "accuracy":
        names = dict.fromkeys(name for pair in pairs for name in pair)
        protocols = dict.fromkeys(one.partition(",")[0] for one in claim.protocols)
        options = f"--task {claim.task} --root IMAGENET" + "".join(f" --protocol {one}" for one in protocols)
        lines = [
            f"{PROGRAM} train {name} --data SHARDS --set seed=N --out runs/{name}    # for five seeds N"
            for name in names
        ]
        lines += [f"{PROGRAM} transfer {name} --results runs/{name} {options}" for name in names]
        folders = " ".join(f"runs/{name}" for name in names)
        return [*lines, f"{PROGRAM} claim {claim.name} --records {folders} --out card.html"]
    memory = (
        f" --memory-gib {claim.conditions.memory_gib:g}" if claim.conditions and claim.conditions.memory_gib else ""
    )
    data = " --data SHARDS" if claim.conditions and claim.conditions.loading == "disk" else ""
    shards = " --set data=SHARDS --caption-lengths pack" if data else ""
    lines = [
        f"{PROGRAM} reference corenet --scale {size} --checkout CORENET{data}"
        for size, name in CORENET_SCALES.items()
        if name == claim.name and "reference" in VERBS
    ]
    for pair in pairs:
        allowed = "" if pair == claim.controlled else " --allow-differences"  # in more than the method
        lines.append(f"{PROGRAM} measure {' '.join(pair)}{allowed}{memory}{data}{settings}")
    if claim.metric == "cost" and "explain" in VERBS:
        baseline, experiment = claim.experiments
        lines.append(
            f"{PROGRAM} explain {experiment} --baseline {baseline} --factors kernel global_negatives{shards}{settings}"
        )
    return [*lines, f"{PROGRAM} claim {claim.name} --records results --out card.html"]


def to_sentence(text: str) -> str:
    """Begin a clause with a capital letter and end it."""
    return f"{text[:1].upper()}{text[1:]}."


def _published(claim: PaperClaim) -> str:
    if claim.is_lower_bound:
        return f"more than {claim.published:g} {claim.unit} (no figure is given)"
    return f"{claim.published:g} {claim.unit}"


def _describe_speed_ratio(card: ClaimCard) -> str:
    """Return the ratio of speeds that a claim on cost means, as the end of a sentence; else nothing."""
    if card.claim.speed_ratio is None:
        return ""
    return f", which is {format_ratio(card.claim.speed_ratio)} times the baseline's images per GPU-hour"


def _short_prediction(card: ClaimCard) -> str:
    if card.counted is not None:
        return f"{card.counted:.3f} %"
    if card.claim.speed_ratio is None:
        return "-"
    equal, released = map(format_ratio, (card.prediction.equal_sizes, card.prediction.released_sizes))
    sizes = f", {released} at the recipes' sizes" if released != equal else ""
    return f"{equal} times the images/s{sizes}"


def _write(card: ClaimCard, found: Interval) -> str:
    estimate = card.to_display_scale(found)
    return f"{format_ratio(estimate.value)}{NBSP}({format_interval(estimate, format_ratio) or 'no interval'})"
