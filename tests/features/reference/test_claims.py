"""Runs of the authors' code decide claims, and the cheapest code of CLIP is on their cards."""

import pytest

pytest.importorskip("bench.features.claims", reason="claims are another feature")

from bench.experiment.config import change
from bench.experiment.experiments import get_experiment
from bench.features.claims.card import REST, make_card
from bench.features.claims.claims import get_claim
from bench.features.claims.evidence import find_evidence
from bench.features.claims.page import claim_document, claim_page
from bench.features.reference import OPEN_CLIP, OURS
from bench.features.reference.plan import recipe_of_run
from bench.features.reference.records import ReferenceRun, ReleasedKey, ReleasedRun
from bench.records.record import Record, Speed
from reports.page import page
from tests.features.claims.evidence import A100, from_disk
from tests.features.claims.test_cards import NAME
from tests.features.claims.test_conditions import SPEED, of_kind, speed_of_the_pair
from tests.features.reference.test_released_run import run
from tests.reports.conftest import HERE, whole_comparison
from tests.reports.test_page import Document


def changed_key(used: str, released: str) -> ReleasedKey:
    return ReleasedKey(state="changed", released=released, used=used, reason="a CPU")


def released(ratio: float, suffix: str = "", **changed: ReleasedKey) -> list[Record]:
    """Runs of the authors' code, CatLIP so many times as fast, with a suffix of the experiments' names."""
    return [
        Record(
            comparison="released",
            experiment=change(from_disk(experiment), name=experiment.name + suffix),
            circumstances=A100,
            measured=ReleasedRun(
                repository="apple/corenet",
                commit="1aa3acd" + "0" * 33,
                file="projects/x.yaml",
                file_sha256="0" * 64,
                keys=changed,
                gpus=1,
                round=number,
                window_images=(1024,),
                window_seconds=(1024 / (rate * (1 + 0.001 * number)),),
                image_sizes=((224, 224, 1024),),
                losses=(1.0,),
            ),
        )
        for number in range(5)
        for experiment, rate in zip(SPEED.experiments_of(SPEED.experiments), (100.0, 100.0 * ratio), strict=True)
    ]


def test_the_authors_code_is_the_strongest_evidence_on_the_published_pair() -> None:
    card = make_card(SPEED, speed_of_the_pair(1.5) + released(1.9))
    (found,) = [one for one in card.deciding if one.name == "published"]
    assert found.evidence.code == "apple/corenet at 1aa3acd"
    assert card.to_display_scale(found.evidence.effect).value == pytest.approx(1.9)
    factors = {one.cause: one.value for one in card.factors}
    assert factors[REST] == pytest.approx(1 / 0.37 / 1.9)
    assert card.judgement.verdict == "not reproduced"


def test_only_runs_of_the_authors_code_reject_the_claim() -> None:
    """Runs of this project's code, which meet all other conditions, leave it open."""
    card = make_card(SPEED, speed_of_the_pair(1.5))
    assert card.deciding
    assert card.judgement.verdict == "not testable here because"
    assert card.judgement.detail.startswith("only runs of the authors' code (apple/corenet) reject it")
    assert make_card(SPEED, speed_of_the_pair(1.5) + released(1.5)).judgement.verdict == "not reproduced"


def test_a_changed_key_of_the_authors_file_is_a_missed_condition() -> None:
    card = make_card(SPEED, released(2.7, **{"dataset.train_batch_size0": changed_key("8", "256")}))
    assert not card.deciding
    (other,) = card.others
    assert other.evidence.missed == ("dataset.train_batch_size0: used 8, released 256: a CPU",)


@pytest.mark.parametrize("commit", ["1aa3acd" + "0" * 33 + "-dirty", "unknown"])
def test_a_changed_checkout_is_not_the_authors_code(commit: str) -> None:
    card = make_card(SPEED, [of_kind(ReleasedRun, commit=commit)(one) for one in released(1.5)])
    assert not card.deciding
    (other,) = card.others
    assert other.evidence.missed == (f"commit of the authors' code: {commit}, needed a checkout without changes",)


def test_a_reduced_run_of_the_authors_code_is_other_evidence_unless_its_tower_is_another() -> None:
    reduced = released(1.5, "-as-released", **{"common.mixed_precision": changed_key("false", "true")})
    card = make_card(SPEED, reduced)
    assert not card.deciding
    assert [one.evidence.code for one in card.others] == ["apple/corenet at 1aa3acd"]
    tiny = released(1.5, "-as-released", **{"model.classification.vit.mode": changed_key("small", "base")})
    assert not make_card(SPEED, tiny).others


def race_records(ours: float) -> list[Record]:
    """Five rounds of open_clip's loop, one second a window, and of ours."""
    experiment = get_experiment("clip-vit-b32")
    return [
        Record(
            comparison="race",
            experiment=experiment,
            circumstances=HERE,
            measured=ReferenceRun(
                side=side,
                round=number,
                window_seconds=(seconds + number / 1000,),
                losses=(1.0,),
                tokens_per_caption=None,
            ),
        )
        for number in range(5)
        for side, seconds in ((OPEN_CLIP, 1.0), (OURS, ours))
    ]


def test_cost_of_clip_is_that_of_its_cheapest_code_on_card_page_and_document() -> None:
    whole = [one for one in whole_comparison() if isinstance(one.measured, Speed)]
    for ours, cheapest in ((0.8, OURS), (2.0, OPEN_CLIP)):
        records = race_records(ours)
        card = make_card(get_claim(NAME), records)
        (sentence,) = card.clip_costs
        assert sentence.startswith(f"clip-vit-b32: CLIP costs the least with {cheapest}, ")
        assert sentence in Document(claim_page(card)).words()
        assert sentence in Document(page("x", whole, folder=records)).words()
        assert claim_document(card)["clip_costs"] == [sentence]
    assert not make_card(get_claim("catlip-accuracy"), race_records(0.8)).clip_costs


def test_run_from_shards_decides_the_claim_on_speed_and_one_from_memory_does_not() -> None:
    claim = get_claim("catlip-2.7x")
    data = "/disk/datacomp"  # the claim names the data set

    def missed_with(settings: list[str]) -> tuple[str, ...]:
        records = [
            Record(
                comparison="x",
                experiment=recipe_of_run(name, settings, is_tiny=False, on_gpu=True),
                circumstances=A100,
                measured=run("file.yaml", round_, (1.0, rate + 0.01 * round_), keys={}),
            )
            for round_ in range(5)
            for name, rate in zip(claim.experiments, (2.0, 1.0), strict=True)
        ]
        (evidence,) = find_evidence(claim, claim.experiments, records)
        return evidence.missed

    assert missed_with([f"data={data}"]) == ()
    assert missed_with([]) == ("images: from memory, needed from shards on disk",)
