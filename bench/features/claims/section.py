"""The paragraph of the page on CatLIP's published speed."""

import shlex

from markupsafe import Markup

from bench.console.console import PROGRAM
from bench.experiment.experiments import HEADLINE_METHODS
from bench.features.claims.claims import CLAIMS, SpeedClaim
from bench.features.claims.tables import format_range
from bench.features.claims.verdict import judge_claim
from bench.interfaces.sections import Block, PageContext, Paragraph
from bench.tables.formats import format_ratio

SPEED_CLAIMS = ("catlip-2.7x", "catlip-h16")
VERDICT_AND_COMMAND = Markup("<strong>{}</strong> (<code>{}</code>)")


def build_claim_paragraph(page: PageContext) -> list[Block] | None:
    """Return a paragraph on CatLIP's published speed and its verdicts; None in a smoke test or without both methods."""
    methods = {experiment.method for experiment in page.comparison.experiments.values()}
    if page.comparison.is_smoke_test or not {*HEADLINE_METHODS} <= methods:
        return None
    sentences = [Markup("<strong>As published:</strong>"), describe_published_catlip_speed()]
    for name in SPEED_CLAIMS:
        verdict = judge_claim(CLAIMS[name], page.folder_records).verdict_sentence
        command = f"{PROGRAM} claim {name} --records {shlex.quote(page.results)}"
        sentences.append(VERDICT_AND_COMMAND.format(verdict, command))
    return [Paragraph(Markup(" ").join(sentences))]


def describe_published_catlip_speed() -> str:
    """Return sentences on CatLIP's published speed at ViT-B/16 and ViT-H/16, and how much of it FLOPs predict."""
    base, huge = (CLAIMS[name] for name in SPEED_CLAIMS)
    return (
        f"CatLIP's paper reports {base.published:g} of CLIP's GPU hours at ViT-B/16 and {huge.published:g} at "
        "ViT-H/16, for one epoch at a batch of 65k on the same hardware. For equal images these are "
        f"{format_ratio(base.published_speed_ratio)} and {format_ratio(huge.published_speed_ratio)} times the images "
        f"per GPU-hour. FLOPs predict {format_range(*base.padded_flop_ratios)} at B/16 and "
        f"{format_range(*huge.padded_flop_ratios)} at H/16, depending on the image sizes that were timed. "
        f"Factors of {_format_range_of_published_over_flops(base)} and "
        f"{_format_range_of_published_over_flops(huge)} remain unexplained."
    )


def _format_range_of_published_over_flops(claim: SpeedClaim) -> str:
    """Return the range of the published speed ratio over the FLOP ratios, as text."""
    low, high = claim.padded_flop_ratios
    return format_range(claim.published_speed_ratio / high, claim.published_speed_ratio / low)
