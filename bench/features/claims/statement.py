"""The statement on CatLIP's speed at two sizes of the tower, and its line in the answer of the page."""

import shlex
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from bench.console.console import PROGRAM, escape_unprintable
from bench.experiment.config import Experiment, get_field
from bench.experiment.experiments import HEADLINE
from bench.features.claims.card import ClaimCard, make_card
from bench.features.claims.claims import get_claim
from bench.features.claims.evidence import records_of_claims
from bench.features.claims.page import to_sentence
from bench.interfaces.sections import DEFAULT_RESULTS, Block, PageContext, Text
from bench.records.record import Record
from bench.tables.formats import format_interval, format_ratio, join_words

CLAIMS = {"catlip-2.7x": "ViT-B/16", "catlip-h16": "ViT-H/16"}  # with the size of the tower, the smaller first
# Settings that may cause a difference of speed at one size, and cannot where both released files agree.
CAUSES = {"precision": "precision", "batch_size": "images per GPU", "attention": "attention kernel"}


def build(page: PageContext) -> list[Block] | None:
    """Say what was published of CatLIP's speed, with the verdict; None in a smoke test and without CLIP or CatLIP."""
    methods = {one.method for one in page.comparison.experiments.values()}
    if page.comparison.is_smoke_test or not {*HEADLINE} <= methods:
        return None
    cards = make_speed_cards(records_of_claims(CLAIMS, page.folder))
    card, *_ = cards.values()
    records = [] if page.results == DEFAULT_RESULTS else ["--records", page.results]
    line = Markup("<strong>As published:</strong> {} <strong>{}</strong> (<code>{} {}</code>)").format(
        " ".join([*speed_statement(cards), *card.clip_costs]),
        to_sentence(card.judgement.verdict_clause),
        PROGRAM,
        escape_unprintable(shlex.join(["claim", card.claim.name, *records])),
    )
    return [Text(line)]


def make_speed_cards(records: Sequence[Record]) -> dict[str, ClaimCard]:
    """Return the cards of the claims on CatLIP's speed, by the names of the claims."""
    return {name: make_card(get_claim(name), records) for name in CLAIMS}


def speed_statement(cards: Mapping[str, ClaimCard]) -> list[str]:
    """Return what the cards of `make_speed_cards` say of the published ratios, sentence by sentence.

    The rest is the published ratio over the measured ratio of records that meet the conditions of the claim, or without
    any over the counted ratio.
    """
    small, large = CLAIMS.values()
    (padded, unpadded, sizes), of_large = (_counted(card) for card in cards.values())
    published = " and ".join(format_ratio(card.claim.speed_ratio or 1) for card in cards.values())
    rests = " and ".join(format_ratio(card.factors[-1].value) for card in cards.values())
    context = _pairs(cards)[0][0].text.context_length
    until = "" if _is_timed(cards) else " until the authors' code has been timed on a GPU with their files"
    counted = (
        f"Counted, CLIP's forward has {padded} times CatLIP's FLOPs per image at {small} when captions are padded to "
        f"{context} tokens as released, and {unpadded} when captions of an assumed web length are not padded; {sizes} "
        "at the image sizes of each released recipe."
    )
    return [
        counted,
        f"At {large} the figures are {join_words(of_large)}.",
        f"Published are {published}.",
        *_measured(cards),
        f"The rest, {rests}, is attributed to nothing by this project{until}.",
        *_excluded_causes(cards),
    ]


def _counted(card: ClaimCard) -> list[str]:
    """Write the counted ratios: captions padded, not padded, and both at the image sizes of each recipe."""
    found = card.prediction
    return [format_ratio(one) for one in (found.equal_sizes, found.unpadded_equal_sizes, found.released_sizes)]


def _pairs(cards: Mapping[str, ClaimCard]) -> list[tuple[Experiment, Experiment]]:
    return [card.claim.experiments_of(card.claim.experiments) for card in cards.values()]


def _is_timed(cards: Mapping[str, ClaimCard]) -> bool:
    return all(any(one.evidence.code for one in card.deciding) for card in cards.values())


def _measured(cards: Mapping[str, ClaimCard]) -> list[str]:
    """Name what was measured on the published pairs."""
    found = []
    for name, card in cards.items():
        for one in card.deciding:
            if one.name == "published":
                estimate = card.to_display_scale(one.evidence.effect)
                interval = format_interval(estimate, format_ratio) or "no interval"
                code, machine = one.evidence.code or "this project's code", one.evidence.machine
                value = f"{format_ratio(estimate.value)} ({interval})"
                found.append(f"Measured at {CLAIMS[name]} with {code} on {machine}: {value}.")
    return found


def _excluded_causes(cards: Mapping[str, ClaimCard]) -> list[str]:
    """Name the settings in which the released files differ at the smaller size and agree at the larger one."""
    pair, other = _pairs(cards)
    names = [
        name
        for field, name in CAUSES.items()
        if get_field(pair[0], field) != get_field(pair[1], field)
        and get_field(other[0], field) == get_field(other[1], field)
    ]
    if not names:
        return []
    causes, size = join_words(names), [*CLAIMS.values()][1]
    return [f"If the published runs used the released files, {causes} explain none of it at {size}, where both agree."]
