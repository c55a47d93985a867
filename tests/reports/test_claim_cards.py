"""A claim's card: its ladder adds up to the published value, and every figure comes from a record or a count."""

import json
import math
from pathlib import Path

import pytest
from msgspec.structs import replace

from bench.__main__ import main
from bench.claims.claims import get_claim, read_claims
from bench.ladder import Coordinates
from bench.record import BatchTrial, Record, Speed, Transfer, read_records, record_path, write_record
from bench.scores import Score
from bench.settings import with_settings
from reports.claims.card import REST, ClaimCard, make_card
from reports.claims.page import claim_document, claim_markdown, claim_page
from reports.page import page
from tests.ladders import ladder_of, measured, speed
from tests.reports.conftest import COMPARISON, HERE
from tests.reports.test_page import HOSTILE, Document

NAME = "catlip-2.7x"
KEPT = Path(__file__).parents[1] / "claims" / "records"
DOCS = Path(__file__).parents[2] / "docs" / "is-it-2.7x.md"
PAIR, CONTROLLED = (
    ("clip-vit-b16-datacomp", "catlip-vit-b16-datacomp"),
    ("clip-vit-b16-controlled", "catlip-vit-b16-controlled"),
)
GPU = replace(HERE, device="cuda", machine="Example GPU; Example CPU, 2 logical cores")
KERNEL, SLOWDOWN = "kernel", 1.3


def on_gpu(records: list[Record]) -> list[Record]:
    return [replace(one, circumstances=GPU) for one in records]


def ladder_records(slowdown: float = 1.0) -> list[Record]:
    """The published pair's ladder, with a kernel that makes every configuration after it so many times as fast."""
    ladder, configurations = ladder_of(PAIR[1], PAIR[0])

    def log(at: Coordinates) -> float:
        return (
            5 + 0.4 * len(at[1]) / len(ladder.factors) + 0.05 * at[0] + (math.log(slowdown) if KERNEL in at[1] else 0.0)
        )

    return measured(ladder, configurations, log, spread=0.002)


def pair_records(pair: tuple[str, str], ratio: float, comparison: str, rounds: int = 5) -> list[Record]:
    experiments = get_claim(NAME).experiments_of(pair)
    return [
        replace(speed(one, log + 0.001 * (-1) ** number, 0.0, number), comparison=comparison)
        for number in range(rounds)
        for one, log in zip(experiments, (5.0, 5.0 + math.log(ratio)), strict=True)
    ]


def factors(card: ClaimCard) -> dict[str, float]:
    return {one.cause: one.value for one in card.factors}


@pytest.mark.parametrize(
    "records",
    [
        [],
        ladder_records(),
        pair_records(PAIR, 2.0, "a"),
        pair_records(CONTROLLED, 1.2, "b"),
        pair_records(PAIR, 2.0, "a") + pair_records(CONTROLLED, 1.2, "b"),
    ],
    ids=["no records", "ladder", "published", "controlled", "both"],
)
def test_the_product_of_all_rungs_is_the_published_value(records: list[Record]) -> None:
    for claim in read_claims().values():
        card = make_card(claim, records)
        assert bool(card.factors) == (claim.metric == "cost")
        if card.factors:
            assert math.prod(factors(card).values()) == pytest.approx(1 / claim.published)


def test_a_planted_rung_moves_from_the_rest_to_its_own_bar() -> None:
    before, after = (factors(make_card(get_claim(NAME), ladder_records(one))) for one in (1.0, SLOWDOWN))
    assert after[KERNEL] / before[KERNEL] == pytest.approx(SLOWDOWN)
    assert before[REST] / after[REST] == pytest.approx(SLOWDOWN)
    assert all(after[cause] == pytest.approx(before[cause]) for cause in before if cause not in (KERNEL, REST))


def test_page_on_the_claim_has_the_figures_of_the_kept_records() -> None:
    """The pairs at ViT-B/16 were measured on a CPU, which does not test the claim."""
    card = make_card(get_claim(NAME), read_records(KEPT))
    text = DOCS.read_text(encoding="utf-8")
    for _, _, evidence in card.measured:
        shown = card.in_unit(evidence.effect)
        assert f"{shown.value:.2f} ({shown.low:.2f} to {shown.high:.2f})" in text
        assert not evidence.is_disturbed
    assert [name for name, *_ in card.measured] == ["controlled", "published"]
    assert f"{factors(card)[REST]:.2f} of the 2.70 is not explained" in " ".join(text.split())
    assert card.judgement.verdict == "not testable here because"


def test_measured_rungs_replace_predicted_ones() -> None:
    claim = get_claim(NAME)
    bases = {
        name: [(one.cause, one.basis) for one in make_card(claim, records).factors]
        for name, records in {
            "none": [],
            "controlled": pair_records(CONTROLLED, 1.2, "b"),
            "ladder": ladder_records(),
        }.items()
    }
    network, rest = ("network", "predicted"), (REST, "unexplained")
    sizes = ("image sizes of the recipes", "predicted")
    assert bases["none"] == [("FLOPs of the methods", "predicted"), sizes, network, rest]
    assert bases["controlled"] == [("the method, all else equal", "measured"), sizes, network, rest]
    assert {basis for _, basis in bases["ladder"][:-2]} == {"measured"}
    assert ("sampler", "measured") in bases["ladder"]
    assert bases["ladder"][-2:] == [network, rest]


def test_pairs_of_different_machines_are_not_divided_by_one_another() -> None:
    records = pair_records(PAIR, 2.0, "a") + on_gpu(pair_records(CONTROLLED, 1.2, "b"))
    causes = [one.cause for one in make_card(get_claim(NAME), records).factors]
    assert causes[0] == "the pair as published"
    assert "the method, all else equal" not in causes


def test_image_sizes_stay_predicted_where_the_runs_had_one_size() -> None:
    one_size = [
        replace(one, experiment=with_settings(one.experiment, ["image_sizes=[]"]))
        for one in pair_records(PAIR, 1.2, "a")
        if one.experiment
    ]
    card = make_card(get_claim(NAME), one_size)
    assert ("image sizes of the recipes", "predicted") in [(one.cause, one.basis) for one in card.factors]
    assert card.published_evidence is not None
    assert "image_sizes ((), recipe" in card.published_evidence.changed_settings


@pytest.mark.parametrize(
    ("of_pair", "of_method", "verdict"),
    [
        (2.7, 2.7, "reproduced"),
        (2.7, 1.2, "reproduced only with the recipes' other settings"),
        (1.5, 1.2, "not reproduced"),
    ],
)
def test_verdict_follows_the_two_pairs_on_a_gpu(of_pair: float, of_method: float, verdict: str) -> None:
    records = pair_records(PAIR, of_pair, "a") + pair_records(CONTROLLED, of_method, "b")
    assert make_card(get_claim(NAME), on_gpu(records)).judgement.text == verdict
    on_a_cpu = make_card(get_claim(NAME), records).judgement
    assert on_a_cpu.text == "not testable here because the records are of a CPU, and the claim is on accelerators"


def test_runs_on_a_disturbed_machine_do_not_test_a_claim() -> None:
    busy = {"other processes CPU busy percent": 50.0}
    records = on_gpu(pair_records(PAIR, 2.7, "a") + pair_records(CONTROLLED, 2.7, "b"))
    disturbed = [
        replace(one, circumstances=HERE, measured=replace(one.measured, utilisation=busy))
        for one in records
        if isinstance(one.measured, Speed)
    ]
    found = make_card(get_claim(NAME), disturbed).published_evidence
    assert found is not None
    assert found.is_disturbed
    assert not any(one.is_disturbed for _, _, one in make_card(get_claim(NAME), records).measured)


def test_a_ladder_names_the_causes_and_stands_for_the_controlled_pair() -> None:
    ladder = on_gpu(ladder_records(2.7 / 1.9))
    judgement = make_card(get_claim(NAME), ladder).judgement
    assert judgement.verdict == "reproduced only with", judgement.text
    assert judgement.detail.startswith(KERNEL)


def test_runs_with_other_settings_than_the_recipe_do_not_test_it() -> None:
    claim = get_claim(NAME)
    records = pair_records(PAIR, 2.7, "a") + pair_records(CONTROLLED, 2.7, "b")
    smaller = [
        replace(one, experiment=with_settings(one.experiment, ["batch_size=8"])) for one in records if one.experiment
    ]
    judgement = make_card(claim, on_gpu(smaller)).judgement
    assert judgement.text == (
        "not testable here because the runs differ from the recipe in "
        "batch_size (8, recipe 256); batch_size (8, recipe 1024)"
    )
    more = [replace(one, experiment=with_settings(one.experiment, ["windows=3"])) for one in records if one.experiment]
    assert make_card(claim, on_gpu(more)).judgement.verdict == "reproduced"


@pytest.mark.parametrize("setting", ["tower=vit_tiny_patch16_224", "text_tower=ViT-L-14"])
def test_runs_with_another_tower_are_no_evidence(setting: str) -> None:
    records = [
        replace(one, experiment=with_settings(one.experiment, [setting]))
        for one in pair_records(PAIR, 2.7, "a")
        if one.experiment
    ]
    assert make_card(get_claim(NAME), records).measured == []


def test_a_setting_that_one_experiment_has_anyway_does_not_part_the_pair() -> None:
    """The name of an experiment omits a setting that is its own: both have 13 steps, one names them."""
    records = [
        replace(one, experiment=with_settings(one.experiment, ["steps_per_window=13"]))
        for one in pair_records(PAIR, 2.0, "a")
        if one.experiment
    ]
    assert len({one.experiment.name.partition("[")[2] for one in records if one.experiment}) == 2
    assert make_card(get_claim(NAME), records).published_evidence is not None


def test_the_largest_batches_are_compared_by_the_bounds_of_their_trials() -> None:
    claim = get_claim("siglip-batch")
    baseline, experiment = claim.experiments_of(claim.experiments)

    def trials(largest: int, smallest: int, of: str) -> list[Record]:
        own = baseline if of == "baseline" else experiment
        return [
            Record(
                comparison=COMPARISON,
                experiment=with_settings(own, [f"batch_size={size}"]),
                circumstances=GPU,
                measured=BatchTrial(limit_bytes=1, fits=size == largest),
            )
            for size in (largest, smallest)
        ]

    card = make_card(claim, [*trials(500, 504, "baseline"), *trials(1000, 1008, "experiment")])
    assert card.judgement.verdict == "reproduced", card.judgement.text
    assert card.published_evidence is not None
    found = card.in_unit(card.published_evidence.effect)
    assert (found.value, found.low, found.high) == pytest.approx((2.0, 1000 / 504, 1008 / 500))
    card = make_card(claim, [*trials(500, 504, "baseline"), *trials(560, 568, "experiment")])
    assert card.judgement.verdict == "not reproduced"


def transfer_record(seed: int, images: int, right: tuple[int, int], subject: str = "") -> Record:
    """The scores of a tower by the two protocols of the claim on a new head, so many of 100 answers right."""
    claim = get_claim("catlip-transfer-init")
    _, experiment = claim.experiments_of(claim.experiments)
    scores = tuple(
        Score(
            task=claim.task,
            protocol=protocol,
            chosen=1.0,
            validation_accuracy=0.5,
            converged=True,
            correct="1" * number + "0" * (100 - number),
            num_classes=2,
            num_train=10,
            majority=0.5,
            label_share=claim.label_share,
        )
        for protocol, number in zip(claim.protocols, right, strict=True)
    )
    return Record(
        comparison=f"{COMPARISON}-{seed}",
        experiment=replace(experiment, seed=seed),
        circumstances=HERE,
        measured=Transfer(subject=subject or experiment.name, images=images, budgets=(), scores=scores),
    )


@pytest.mark.parametrize(("seeds", "verdict"), [(5, "reproduced"), (4, "not testable here because")])
def test_accuracies_are_compared_over_five_common_seeds(seeds: int, verdict: str) -> None:
    records = [transfer_record(seed, 2, (16 + seed, 30 + seed)) for seed in range(seeds)]
    card = make_card(get_claim("catlip-transfer-init"), records)
    assert card.judgement.verdict == verdict, card.judgement.text
    assert card.published_evidence is not None
    assert card.published_evidence.effect.value == pytest.approx(14.0)


def test_towers_of_smaller_budgets_and_without_training_do_not_count() -> None:
    records = [
        one
        for seed in range(5)
        for one in (
            transfer_record(seed, 2, (16, 30)),
            transfer_record(seed, 1, (90, 10)),
            transfer_record(seed, 0, (90, 10), "random init"),
        )
    ]
    card = make_card(get_claim("catlip-transfer-init"), records)
    assert card.published_evidence is not None
    assert card.published_evidence.effect.value == pytest.approx(14.0)


def test_a_count_decides_a_claim_on_flops() -> None:
    card = make_card(get_claim("superclip-flops"), [])
    assert card.judgement.verdict == "reproduced"
    assert card.counted == pytest.approx(0.074, abs=0.001)


def test_page_markdown_and_document_show_the_same_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = pair_records(PAIR, 2.0, "20261128T120000-a") + pair_records(CONTROLLED, 1.2, "20261128T120000-b")
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
    assert found == json.loads(json.dumps(claim_document(card)))
    assert text == claim_markdown(card)
    assert out.read_text() == claim_page(card)
    table = shown.tables["Factors of the published ratio"]
    assert [row[0] for row in table[1:]] == [one.cause for one in card.factors]
    for row, one in zip(found["ladder"], card.factors, strict=True):
        assert row["value"] == one.value
        assert f"| {one.cause} | {one.value:.2f}" in text
    digests = {row["records"] for row in found["measured"]}
    assert len(digests) == 2
    assert all(digest in text and digest in out.read_text() for digest in digests)
    assert card.judgement.detail in shown.words()
    assert main(["claim", *options]) == 0
    assert len(json.loads(document.read_text())["Claims of papers"]["rows"]) == len(read_claims())
    assert NAME in capsys.readouterr().out


def test_the_digest_changes_with_a_record_and_not_with_their_order() -> None:
    records = pair_records(PAIR, 2.0, "a")

    def digest(rows: list[Record]) -> str:
        found = make_card(get_claim(NAME), rows).published_evidence
        assert found is not None
        return found.digest

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


def test_the_default_page_has_the_line_of_the_claim_under_its_result(whole: list[Record]) -> None:
    without = page("x", whole)
    assert "At ViT-B/16 as published" in Document(without).words()
    assert "neither pair was measured" in Document(without).words()
    with_records = page("x", whole, claim_records=pair_records(PAIR, 1.4, "a"))
    assert "the published pair: 1.40" in Document(with_records).words()
    clip = [one for one in whole if one.experiment is not None and one.experiment.method == "clip"]
    assert "as published" not in Document(page("x", clip)).words()
