"""Claims of papers: their files, their published values, and what is predicted for them."""

import re
from pathlib import Path

import pytest

from bench.experiment.recipes import PUBLISHED_HOURS
from bench.features.claims.claims import Conditions, PaperClaim, get_claim, read_claims, read_predictions
from bench.features.claims.predictions import predict_claim
from bench.interfaces.hooks import find_hook

DOCS = Path(__file__).parents[3] / "docs"
SOURCES = DOCS / "sources.md"
COUNTED = {"catlip-2.7x", "superclip-flops", "siglip-batch"}  # the others take 15 seconds


def rows_of_sources() -> dict[str, list[str]]:
    """The table of docs/sources.md, by the claim that its rows name first."""
    lines = (line.strip("| ").split(" | ") for line in SOURCES.read_text(encoding="utf-8").splitlines())
    return {row[0].strip("`"): row for row in lines if row[0].startswith("`")}


@pytest.mark.parametrize("name", read_claims())
def test_the_published_value_is_that_of_the_table_of_sources(name: str) -> None:
    claim = get_claim(name)
    _, value, unit, source, where = rows_of_sources()[name]
    assert float(value.removeprefix("> ").replace("\N{MINUS SIGN}", "-")) == claim.published
    assert value.startswith("> ") == claim.is_lower_bound
    assert unit == claim.unit
    assert source == claim.source
    assert claim.where.startswith(where)


def test_every_row_of_the_table_is_a_claim() -> None:
    assert set(rows_of_sources()) == set(read_claims())


@pytest.mark.parametrize("name", read_claims())
def test_a_claim_names_two_experiments_and_says_how_it_was_checked(name: str) -> None:
    claim = get_claim(name)
    for pair in filter(None, (claim.experiments, claim.controlled)):
        baseline, experiment = claim.experiments_of(pair)
        assert baseline.image.tower == experiment.image.tower
    assert claim.checked
    assert claim.where


def test_the_published_value_stands_in_the_quote_or_beside_it() -> None:
    for claim in read_claims().values():
        found = [float(number) for number in re.findall(r"\d+\.\d+|\d+", f"{claim.quote} {claim.where}")]
        if claim.metric == "accuracy":
            found = [round(one - other, 6) for one in found for other in found]
        if claim.metric == "largest batch":
            found = [one / other for one in found for other in found if other]
        assert claim.published in found, claim.name


def test_the_published_hours_of_the_recipes_are_those_of_the_claim() -> None:
    claims = {"corenet-vit-base": "catlip-2.7x", "corenet-vit-huge": "catlip-h16"}
    assert {tower: get_claim(name).published for tower, name in claims.items()} == PUBLISHED_HOURS


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=[] if one in COUNTED else pytest.mark.exhaustive) for one in read_claims()]
)
@pytest.mark.skipif(find_hook("communication_range") is None, reason="no feature predicts communication")
def test_predictions_are_those_of_the_counter(name: str) -> None:
    assert predict_claim(get_claim(name)) == read_predictions()[name], (
        "write them with: python -m bench.features.claims.predictions"
    )


@pytest.mark.parametrize("changes", [{"published": 0.0}, {"metric": "accuracy"}, {"conditions": None}])
def test_a_claim_with_an_impossible_value_is_refused(changes: dict[str, object]) -> None:
    fields = {
        **dict.fromkeys(("title", "quote", "source", "where", "checked", "held_fixed", "hardware"), "x"),
        "metric": "cost",
        "published": 0.5,
        "experiments": ("clip-tiny", "catlip-tiny"),
        "conditions": Conditions(device="cuda"),
    }
    assert PaperClaim(**fields).speed_ratio == 2.0
    with pytest.raises(ValueError, match=r"published must be positive|needs a task|conditions are for"):
        PaperClaim(**fields | changes)
