"""The verdict on a claim of a paper, from two measured pairs of experiments."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bench.statistics.intervals import Interval
from bench.tables.formats import join_words

ClaimVerdict = Literal["reproduced", "reproduced only with", "not reproduced", "not testable here because"]
CLAIM_TOLERANCE = math.log(1.1)  # of the logarithm of a published ratio, which has two digits
CLAIM_ACCURACY_TOLERANCE = 1.0  # points of accuracy
# The rule of `judge_claim` in words.
CLAIM_RULE = (
    (
        "The controlled pair differs in the method alone, the published pair in all settings of the released recipes. "
        "A pair agrees with the figure if its whole 95 % interval lies within 10 % of it (one point of accuracy), and "
        "differs from it if the whole interval lies beyond. For a figure that is a lower bound there is no margin."
    ),
    (
        "Reproduced: the controlled pair agrees. A claim without a controlled pair is reproduced as published if the "
        "published pair agrees."
    ),
    (
        "Reproduced only with a cause: the published pair agrees and the controlled pair differs. To find the causes, "
        "the measured effects of the settings are removed from the published pair's ratio, the largest first, until it "
        "is more than 10 % below the figure."
    ),
    (
        "Not reproduced: the published pair differs, and still differs after the modelled effect of communication is "
        "added where its runs had one GPU. If the controlled pair was measured, it differs, too. Where the authors' "
        "code can be timed, only its runs reject the claim."
    ),
    "Not testable here: anything else, such as a pair that was not measured, or an interval that is too wide.",
)


@dataclass(frozen=True, slots=True)
class PublishedFigure:
    """A published figure, on an additive scale: the logarithm of a ratio, or points of accuracy."""

    value: float
    tolerance: float = CLAIM_TOLERANCE
    is_lower_bound: bool = False  # the paper says "more than this"


@dataclass(frozen=True, slots=True)
class ClaimJudgement:
    """The verdict on a claim; `detail` is the cause or the reason that completes it, else empty."""

    verdict: ClaimVerdict
    detail: str = ""

    @property
    def verdict_clause(self) -> str:
        """The verdict as a clause."""
        return f"{self.verdict} {self.detail}".strip()


def judge_claim(
    published: PublishedFigure,
    controlled: Interval | None,
    as_published: Interval | None,
    causes: Mapping[str, float],
    unmeasured: tuple[float, float] = (0.0, 0.0),
) -> ClaimJudgement:
    """Judge a published figure by two measured pairs of experiments.

    The rule in words is `CLAIM_RULE`, whose points are tried in their order. Everything is on the additive scale of
    `PublishedFigure`: intervals, the effects of other settings than the method (`causes`), and the least and
    largest predicted effect of what the records lack (`unmeasured`).
    """
    by_method, by_recipe = (_agrees_with_published(one, published) for one in (controlled, as_published))
    if by_method:
        return ClaimJudgement("reproduced")
    if by_recipe and controlled is not None and as_published is not None and by_method is False:
        return ClaimJudgement("reproduced only with", _necessary_causes(published, as_published.value, causes))
    if by_recipe is False and as_published is not None and (controlled is None or by_method is False):
        least, largest = unmeasured
        moved = Interval(as_published.value, as_published.low + least, as_published.high + largest)
        if _agrees_with_published(moved, published) is False:
            return ClaimJudgement("not reproduced")
        return ClaimJudgement("not testable here because", "what was not measured may make the difference")
    return ClaimJudgement("not testable here because", _why_undecided(controlled, as_published, by_recipe))


def _agrees_with_published(found: Interval | None, published: PublishedFigure) -> bool | None:
    """Return whether an interval lies within the tolerance of a figure; None if it cannot be told."""
    if found is None:
        return None
    low, high = found.low - published.value, found.high - published.value
    if published.is_lower_bound:
        return True if low > 0 else False if high <= 0 else None
    if max(-low, high) <= published.tolerance:
        return True
    return False if low > published.tolerance or high < -published.tolerance else None


def _necessary_causes(published: PublishedFigure, measured: float, causes: Mapping[str, float]) -> str:
    """Name the causes of a ratio, the largest first, without which it is out of tolerance."""
    named, rest = list[str](), measured
    for cause, effect in sorted(causes.items(), key=lambda item: -item[1]):
        if effect <= 0 or rest < published.value - published.tolerance:
            break
        named.append(cause)
        rest -= effect
    return join_words(named) or "the recipes' other settings"


def _why_undecided(controlled: Interval | None, as_published: Interval | None, by_recipe: bool | None) -> str:
    if controlled is None and as_published is None:
        return "neither pair was measured"
    if as_published is None:
        return "the published pair was not measured"
    if by_recipe is None:
        return "the interval of the published pair is too wide"
    if controlled is None:
        return "the controlled pair was not measured"
    return "the interval of the controlled pair is too wide"
