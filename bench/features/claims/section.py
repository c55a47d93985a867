"""The line on the claim on CatLIP's speed, in the answer of the page."""

from markupsafe import Markup

from bench.console.console import PROGRAM
from bench.experiments import HEADLINE
from bench.features.claims.evidence import records_of_claims
from bench.features.claims.page import to_sentence
from bench.features.claims.statement import CLAIMS, make_speed_cards, speed_statement
from bench.sections import Block, PageContext, Text


def build(page: PageContext) -> list[Block] | None:
    """Say what was published of CatLIP's speed and the verdict on it; None where the page lacks CLIP or CatLIP."""
    if not {*HEADLINE} <= {one.method for one in page.comparison.experiments.values()}:
        return None
    cards = make_speed_cards(records_of_claims(CLAIMS, page.folder))
    card, *_ = cards.values()
    line = Markup("<strong>As published:</strong> {} <strong>{}</strong> (<code>{} claim {}</code>)").format(
        " ".join([*speed_statement(cards), *card.clip_costs]),
        to_sentence(card.judgement.verdict_clause),
        PROGRAM,
        card.claim.name,
    )
    return [Text(line)]
