"""The rule of a claim's verdict, on simulated runs whose truth is known."""

import math
import random
from collections.abc import Mapping

import pytest

from bench.features.claims.judgement import ClaimVerdict, PublishedFigure, judge_claim
from bench.statistics.intervals import Interval
from bench.statistics.ratios import ratio_of

CASES, MOST_ERRORS = 100, 2
PUBLISHED = PublishedFigure(math.log(2.7))
CAUSE = "precision"


def measured(ratio: float, chance: random.Random, *, runs: int = 5, spread: float = 0.02) -> Interval:
    """The interval that simulated runs of two experiments give, each round with luck of its own."""

    def rates(rate: float) -> dict[int, float]:
        return {round_: rate * math.exp(chance.gauss(0, spread)) for round_ in range(runs)}

    found = ratio_of(rates(100.0), rates(100.0 * ratio))
    if found.low is None or found.high is None:
        return Interval(math.log(found.value), -math.inf, math.inf)
    return Interval(math.log(found.value), math.log(found.low), math.log(found.high))


def simulated(
    truth: ClaimVerdict, chance: random.Random
) -> tuple[Interval | None, Interval | None, Mapping[str, float]]:
    """The controlled pair, the published pair and the measured causes of a case of this truth."""
    of_method, none = chance.uniform(1.0, 1.6), dict[str, float]()
    if truth == "reproduced":
        return measured(2.7, chance), measured(2.7 * chance.uniform(0.8, 1.6), chance), none
    if truth == "reproduced only with":
        causes = {CAUSE: math.log(2.7 / of_method), "crops": chance.gauss(0, 0.01)}
        return measured(of_method, chance), measured(2.7, chance), causes
    if truth == "not reproduced":
        return measured(of_method, chance), measured(chance.uniform(of_method, 2.2), chance), none
    method, pair = measured(of_method, chance), measured(2.7, chance)
    wide = {"runs": 5, "spread": chance.uniform(0.3, 0.5)}
    return chance.choice(
        [
            (None, None, none),
            (method, None, none),
            (None, pair, none),
            (method, measured(2.7, chance, runs=1), none),
            (method, measured(2.7, chance, **wide), none),
        ]
    )


@pytest.mark.parametrize("truth", ["reproduced", "reproduced only with", "not reproduced", "not testable here because"])
def test_verdicts_on_simulated_records_are_right(truth: ClaimVerdict) -> None:
    chance = random.Random(truth)
    found = [judge_claim(PUBLISHED, *simulated(truth, chance)) for _ in range(CASES)]
    assert sum(one.verdict != truth for one in found) <= MOST_ERRORS
    if truth == "reproduced only with":
        assert {one.detail for one in found if one.verdict == truth} == {CAUSE}


def exact(ratio: float) -> Interval:
    return Interval(*[math.log(ratio)] * 3)


def test_causes_are_the_largest_settings_without_which_the_ratio_is_out_of_tolerance() -> None:
    causes = {"flips": -0.2, "sampler": math.log(1.08), "kernel": math.log(1.06), "batch": math.log(1.01)}
    found = judge_claim(PUBLISHED, exact(2.2), exact(2.7), causes)
    assert found.verdict_clause == "reproduced only with sampler and kernel"
    assert judge_claim(PUBLISHED, exact(2.2), exact(2.7), {}).detail == "the recipes' other settings"


def test_what_records_lack_can_prevent_a_rejection() -> None:
    assert judge_claim(PUBLISHED, exact(1.2), exact(2.0), {}).verdict == "not reproduced"
    assert (
        judge_claim(PUBLISHED, exact(1.2), exact(2.0), {}, (0.0, math.log(1.3))).verdict == "not testable here because"
    )


def test_a_lower_bound_needs_an_interval_above_it() -> None:
    bound = PublishedFigure(0.0, is_lower_bound=True)
    for low, high, verdict in (
        (0.1, 3.0, "reproduced"),
        (-2.0, 0.0, "not reproduced"),
        (-1.0, 1.0, "not testable here because"),
    ):
        gain = Interval((low + high) / 2, low, high)
        assert judge_claim(bound, gain, gain, {}).verdict == verdict
