"""A claim's card: its ladder adds up to the published value, and every figure comes from a record or a count."""

import json
import math
from pathlib import Path

import pytest
from msgspec.structs import replace

from bench.__main__ import main
from bench.experiment.settings import with_settings
from bench.features.claims.card import METHOD, PADDING, REST, SIZES, ClaimCard, make_card
from bench.features.claims.claims import get_claim, read_claims
from bench.features.claims.evidence import PairEvidence
from bench.features.claims.page import claim_document, claim_markdown, claim_page
from bench.features.claims.statement import make_speed_cards, speed_statement
from bench.records.record import Record, Speed, read_records, record_path, write_record
from reports.page import page
from tests.features.claims.evidence import A100, on_a100
from tests.reports.conftest import HERE, whole_comparison
from tests.reports.test_page import HOSTILE, Document
from tests.timed_runs import speed

NAME = "catlip-2.7x"
KEPT = Path(__file__).parent / "records"
PAIR, CONTROLLED = (
    ("clip-vit-b16-datacomp", "catlip-vit-b16-datacomp"),
    ("clip-vit-b16-controlled", "catlip-vit-b16-controlled"),
)


def pair_records(pair: tuple[str, str], ratio: float, comparison: str, rounds: int = 5) -> list[Record]:
    experiments = get_claim(NAME).experiments_of(pair)
    return [
        replace(speed(one, log + 0.001 * (-1) ** number, 0.0, number), comparison=comparison)
        for number in range(rounds)
        for one, log in zip(experiments, (5.0, 5.0 + math.log(ratio)), strict=True)
    ]


def evidence(card: ClaimCard, name: str) -> PairEvidence | None:
    """The evidence on a pair that decides; None without any."""
    return next((one.evidence for one in card.deciding if one.name == name), None)


def factors(card: ClaimCard) -> dict[str, float]:
    return {one.cause: one.value for one in card.factors}


@pytest.mark.parametrize(
    "records",
    [
        [],
        on_a100(pair_records(PAIR, 2.0, "a")),
        on_a100(pair_records(CONTROLLED, 1.2, "b")),
        on_a100(pair_records(PAIR, 2.0, "a") + pair_records(CONTROLLED, 1.2, "b")),
        pair_records(PAIR, 2.0, "a"),
    ],
    ids=["no records", "published", "controlled", "both", "on a CPU"],
)
def test_the_product_of_all_rungs_is_the_published_value(records: list[Record]) -> None:
    for claim in read_claims().values():
        card = make_card(claim, records)
        assert bool(card.factors) == (claim.metric == "cost")
        if card.factors:
            assert math.prod(factors(card).values()) == pytest.approx(1 / claim.published)


def test_kept_records_of_a_cpu_do_not_test_the_claim() -> None:
    card = make_card(get_claim(NAME), read_records(KEPT))
    assert {one.name for one in card.others} == {"controlled", "published"}
    assert not card.deciding
    assert card.judgement.verdict_clause.startswith(
        "not testable here because no record meets the claim's conditions ("
    )


def test_measured_rungs_replace_counted_ones() -> None:
    claim = get_claim(NAME)
    bases = {
        name: [(one.cause, one.basis) for one in make_card(claim, records).factors]
        for name, records in {
            "none": [],
            "on a CPU": pair_records(PAIR, 2.0, "a"),
            "controlled": on_a100(pair_records(CONTROLLED, 1.2, "b")),
        }.items()
    }
    padding, sizes, rest = (PADDING, "counted"), (SIZES, "counted"), (REST, "unexplained")
    assert bases["none"] == bases["on a CPU"] == [(METHOD, "counted"), padding, sizes, rest]
    assert bases["controlled"] == [(METHOD, "measured"), padding, sizes, rest]


def test_pairs_of_different_machines_are_not_divided_by_one_another() -> None:
    other = replace(A100, machine="NVIDIA A100-PCIE-40GB; Example CPU, 2 logical cores")
    records = on_a100(pair_records(PAIR, 2.0, "a")) + on_a100(pair_records(CONTROLLED, 1.2, "b"), other)
    causes = [one.cause for one in make_card(get_claim(NAME), records).factors]
    assert causes[0] == "the pair as published"
    assert METHOD not in causes


@pytest.mark.parametrize(
    ("of_pair", "of_method", "verdict"),
    [
        (2.7, 2.7, "reproduced"),
        (2.7, 1.2, "reproduced only with the recipes' other settings"),
    ],
)
def test_verdict_follows_the_two_pairs_on_a_gpu(of_pair: float, of_method: float, verdict: str) -> None:
    records = pair_records(PAIR, of_pair, "a") + pair_records(CONTROLLED, of_method, "b")
    assert make_card(get_claim(NAME), on_a100(records)).judgement.verdict_clause == verdict
    on_a_cpu = make_card(get_claim(NAME), records)
    assert on_a_cpu.judgement.verdict == "not testable here because"
    assert "GPU: none, needed A100" in on_a_cpu.judgement.detail
    assert not on_a_cpu.deciding


@pytest.mark.parametrize("setting", ["tower=vit_tiny_patch16_224", "text_tower=ViT-L-14"])
def test_runs_with_another_tower_are_no_evidence(setting: str) -> None:
    records = [
        replace(one, experiment=with_settings(one.experiment, [setting]))
        for one in pair_records(PAIR, 2.7, "a")
        if one.experiment
    ]
    card = make_card(get_claim(NAME), records)
    assert not [*card.deciding, *card.others]


def test_a_setting_that_one_experiment_has_anyway_does_not_part_the_pair() -> None:
    """The name of an experiment omits a setting that is its own: both have 13 steps, one names them."""
    records = [
        replace(one, experiment=with_settings(one.experiment, ["steps_per_window=13"]))
        for one in pair_records(PAIR, 2.0, "a")
        if one.experiment
    ]
    assert len({one.experiment.name.partition("[")[2] for one in records if one.experiment}) == 2
    assert evidence(make_card(get_claim(NAME), on_a100(records)), "published") is not None


def test_a_count_decides_a_claim_on_flops() -> None:
    card = make_card(get_claim("superclip-flops"), [])
    assert card.judgement.verdict == "reproduced"
    assert card.counted == pytest.approx(0.074, abs=0.001)


def test_page_markdown_and_document_show_the_same_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = on_a100(pair_records(PAIR, 2.0, "20261128T120000-a") + pair_records(CONTROLLED, 1.2, "20261128T120000-b"))
    records += [replace(one, circumstances=HERE, comparison="20261128T120000-c") for one in records[:10]]
    for one in records:
        assert one.experiment is not None
        write_record(
            one, record_path(tmp_path, one.comparison, "speed", one.experiment.name, f"round{one.measured.round}")
        )
    out, document = tmp_path / "card.html", tmp_path / "card.json"
    options = ["--records", str(tmp_path), "--json", str(document)]
    assert main(["claim", NAME, *options, "--out", str(out)]) == 0
    assert main(["claim", NAME, *options, "--out", str(out.with_suffix(".md"))]) == 0
    capsys.readouterr()
    shown, text, found = Document(out.read_text()), out.with_suffix(".md").read_text(), json.loads(document.read_text())
    card = make_card(get_claim(NAME), records)
    statement = speed_statement(make_speed_cards(records))
    assert found == json.loads(json.dumps(claim_document(card, statement)))
    assert text == claim_markdown(card, statement)
    assert out.read_text() == claim_page(card, statement)
    table = shown.tables["Factors of the published ratio"]
    assert [row[0] for row in table[1:]] == [one.cause for one in card.factors]
    assert found["statement"] in shown.words()
    for row, one in zip(found["ladder"], card.factors, strict=True):
        assert row["value"] == one.value
        assert f"| {one.cause} | {one.value:.2f}" in text
    assert [len(found[key]) for key in ("measured", "other_evidence")] == [2, 1]
    digests = {row["records"] for key in ("measured", "other_evidence") for row in found[key]}
    assert len(digests) == 3
    assert all(digest in text and digest in out.read_text() for digest in digests)
    assert card.judgement.detail in shown.words()
    assert main(["claim", *options]) == 0
    assert len(json.loads(document.read_text())["Claims of papers"]["rows"]) == len(read_claims())
    assert NAME in capsys.readouterr().out


def test_the_digest_changes_with_a_record_and_not_with_their_order() -> None:
    records = pair_records(PAIR, 2.0, "a")

    def digest(rows: list[Record]) -> str:
        return make_card(get_claim(NAME), rows).others[0].evidence.digest

    assert digest(records) == digest(records[::-1])
    assert digest(records) != digest(pair_records(PAIR, 2.01, "a"))


def test_a_damaged_record_is_reported_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record_path(tmp_path, "a", "speed", PAIR[0]).write_text("{")
    assert main(["claim", NAME, "--records", str(tmp_path)]) == 3
    assert "left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["catlip-2.8x"], "catlip-2.7x"),
        ([NAME, "--records", "nowhere"], "nowhere is no folder"),
        (["--out", "x.html"], "--out is for one claim"),
        ([NAME, "--out", "x.pdf"], "ending of --out"),
    ],
)
def test_wrong_use_is_reported_in_one_line(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["claim", *options]) == 2
    assert message in capsys.readouterr().err


def test_text_of_records_is_escaped() -> None:
    hostile = [replace(one, circumstances=replace(HERE, machine=HOSTILE)) for one in pair_records(PAIR, 2.0, "a")]
    card = make_card(get_claim(NAME), hostile)
    assert claim_page(card).count("<script") == 1
    assert "<script>" not in claim_markdown(card)


def test_the_default_page_has_the_statement_and_the_verdict_under_its_result() -> None:
    whole = [one for one in whole_comparison() if isinstance(one.measured, Speed)]
    without = Document(page("x", whole)).words()
    assert " ".join(speed_statement(make_speed_cards([]))) in without
    assert "neither pair was measured" in without
    records = on_a100(pair_records(PAIR, 1.4, "a"))
    with_records = Document(page("x", whole, folder=records)).words()
    assert " ".join(speed_statement(make_speed_cards(records))) in with_records
    assert "Measured at ViT-B/16" in with_records
    clip = [one for one in whole if one.experiment is not None and one.experiment.method == "clip"]
    assert "As published" not in Document(page("x", clip)).words()


def test_the_statement_has_one_rest_for_each_size_that_is_the_rest_of_its_card() -> None:
    for records in ([], pair_records(PAIR, 2.0, "a"), on_a100(pair_records(PAIR, 2.0, "a"))):
        (sentence,) = [one for one in speed_statement(make_speed_cards(records)) if one.startswith("The rest, ")]
        rests = [factors(card)[REST] for card in make_speed_cards(records).values()]
        assert sentence.startswith(f"The rest, {rests[0]:.2f} and {rests[1]:.2f}, is attributed to nothing")


def test_a_setting_that_agrees_at_the_larger_size_is_named_as_no_cause_there() -> None:
    last = speed_statement(make_speed_cards([]))[-1]
    assert last.endswith("precision and images per GPU explain none of it at ViT-H/16, where both agree.")
