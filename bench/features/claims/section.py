"""The paragraph of the page on CatLIP's published speed."""

import shlex

from markupsafe import Markup

from bench.console.console import PROGRAM, escape_unprintable
from bench.experiment.experiments import HEADLINE_METHODS
from bench.features.claims.claims import get_claim
from bench.features.claims.verdict import judge_claim
from bench.interfaces.sections import DEFAULT_RESULTS, Block, PageContext, Text
from bench.tables.formats import format_ratio

SPEED_CLAIMS = ("catlip-2.7x", "catlip-h16")


def build_claim_paragraph(page: PageContext) -> list[Block] | None:
    """Say what was published of CatLIP's speed, with the verdicts; None in a smoke test and without CLIP or CatLIP."""
    methods = {experiment.method for experiment in page.comparison.experiments.values()}
    if page.comparison.is_smoke_test or not {*HEADLINE_METHODS} <= methods:
        return None
    options = [] if page.results == DEFAULT_RESULTS else ["--records", page.results]
    verdicts = [
        Markup("<strong>{}</strong> (<code>{} {}</code>)").format(
            judge_claim(get_claim(name), page.folder).sentence,
            PROGRAM,
            escape_unprintable(shlex.join(["claim", name, *options])),
        )
        for name in SPEED_CLAIMS
    ]
    return [
        Text(
            Markup("<strong>As published:</strong> {} {} {}").format(
                describe_published_speed(), *verdicts
            )
        )
    ]


def describe_published_speed() -> str:
    """Return what is published and counted of CatLIP's speed at two sizes of the tower."""
    base, huge = (get_claim(name) for name in SPEED_CLAIMS)
    published = [format_ratio(claim.speed_ratio) for claim in (base, huge)]
    counted = [
        [format_ratio(ratio.value) for ratio in claim.flop_ratios[1:]] for claim in (base, huge)
    ]
    rests = [
        [format_ratio(claim.speed_ratio / ratio.value) for ratio in reversed(claim.flop_ratios[1:])]
        for claim in (base, huge)
    ]
    return (
        f"CatLIP's paper reports {base.published:g} of CLIP's GPU hours at ViT-B/16 and {huge.published:g} at "
        "ViT-H/16, for one epoch at a batch of 65k on the same hardware. For equal images these are "
        f"{published[0]} and {published[1]} times the images per GPU-hour. FLOPs predict {counted[0][0]} to "
        f"{counted[0][1]} at B/16 and {counted[1][0]} to {counted[1][1]} at H/16, depending on the image sizes that "
        f"were timed. Factors of {rests[0][0]} to {rests[0][1]} and {rests[1][0]} to {rests[1][1]} remain unexplained."
    )
