"""A ladder gives the factors of a claim's card, and stands for the pair that differs in the method alone."""

import math

import pytest

pytest.importorskip("bench.features.claims", reason="claims are another feature")

from bench.features.claims.card import REST, make_card
from bench.features.claims.claims import get_claim
from bench.features.explain.ladder import Coordinates
from bench.records.record import Record
from tests.features.claims.evidence import on_a100
from tests.features.claims.test_cards import NAME, PAIR, factors
from tests.features.explain.ladders import ladder_of, measured

KERNEL, SLOWDOWN = "kernel", 1.3


def ladder_records(slowdown: float = 1.0, whole: float | None = None) -> list[Record]:
    """The published pair's ladder, with a kernel that makes every configuration after it so many times as fast.

    All other causes together give `whole`; None: a tenth each.
    """
    ladder, configurations = ladder_of(PAIR[1], PAIR[0])
    part = math.log(1.1) if whole is None else math.log(whole) / len(ladder.steps)

    def log(at: Coordinates) -> float:
        return 5 + part * (len(at[1]) + at[0]) + (math.log(slowdown) if KERNEL in at[1] else 0.0)

    return measured(ladder, configurations, log, spread=0.002)


def test_every_factor_of_a_ladder_is_measured_and_their_product_is_the_published_value() -> None:
    claim = get_claim(NAME)
    *parts, rest = make_card(claim, on_a100(ladder_records())).factors
    assert {one.basis for one in parts} == {"measured"}
    assert "sampler" in {one.cause for one in parts}
    assert (rest.cause, rest.basis) == (REST, "unexplained")
    assert math.prod(one.value for one in (*parts, rest)) == pytest.approx(1 / claim.published)
    assert make_card(claim, ladder_records()).factors == make_card(claim, []).factors


def test_a_planted_rung_moves_from_the_rest_to_its_own_bar() -> None:
    before, after = (factors(make_card(get_claim(NAME), on_a100(ladder_records(one)))) for one in (1.0, SLOWDOWN))
    assert after[KERNEL] / before[KERNEL] == pytest.approx(SLOWDOWN)
    assert before[REST] / after[REST] == pytest.approx(SLOWDOWN)
    assert all(after[cause] == pytest.approx(before[cause]) for cause in before if cause not in (KERNEL, REST))


def test_a_ladder_names_the_causes_and_stands_for_the_controlled_pair() -> None:
    ladder = on_a100(ladder_records(1.8, whole=1.5))
    judgement = make_card(get_claim(NAME), ladder).judgement
    assert judgement.verdict == "reproduced only with", judgement.verdict_clause
    assert judgement.detail.startswith(KERNEL)
