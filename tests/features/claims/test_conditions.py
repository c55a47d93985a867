"""Records that miss one condition of a claim decide nothing, and the condition is named."""

import math
from collections.abc import Callable, Sequence

import pytest
from msgspec.structs import replace

from bench.experiment.config import change
from bench.features.claims.card import ClaimCard, make_card
from bench.features.claims.claims import PaperClaim, get_claim, read_claims
from bench.features.claims.conditions import describe_conditions
from bench.records.record import BatchTrial, Record, Training, Transfer
from tests.features.claims.evidence import GIB, SHARDS, speed_records, tower_records, trials
from tests.reports.conftest import HERE

SPEED, ACCURACY, BATCH, TRANSFER = (
    get_claim(name) for name in ("catlip-2.7x", "catlip-accuracy", "siglip-batch", "catlip-transfer-init")
)
RIGHT = 42_200  # of 50,000 test images: 84.4 %


def speed_of_the_pair(ratio: float = 2.7) -> list[Record]:
    """The published pair with a controlled pair that agrees, on an A100."""
    logarithms = 5.0, 5.0 + math.log(ratio)
    controlled = replace(SPEED, experiments=SPEED.controlled)
    return speed_records(SPEED, logarithms) + [
        replace(one, comparison="controlled") for one in speed_records(controlled, logarithms)
    ]


def towers(right: int = RIGHT) -> list[Record]:
    """Five seeds of both methods, CatLIP's towers 0.1 points below."""
    return [
        record
        for seed in range(5)
        for side, number in enumerate((right + 10 * seed, right - 50 + 10 * seed))
        for record in tower_records(ACCURACY, side, seed, [number])
    ]


def batches() -> list[Record]:
    return trials(BATCH, 0, 500, 504) + trials(BATCH, 1, 1000, 1008)


def with_experiment(**fields: object) -> Callable[[Record], Record]:
    def changed(record: Record) -> Record:
        return replace(record, experiment=record.experiment and change(record.experiment, **fields))

    return changed


def with_circumstances(**fields: object) -> Callable[[Record], Record]:
    return lambda record: replace(record, circumstances=replace(record.circumstances, **fields))


def of_kind(kind: type, **fields: object) -> Callable[[Record], Record]:
    def change(record: Record) -> Record:
        if not isinstance(record.measured, kind):
            return record
        return replace(record, measured=replace(record.measured, **fields))

    return change


def with_scores(**fields: object) -> Callable[[Record], Record]:
    def change(record: Record) -> Record:
        if not isinstance(record.measured, Transfer):
            return record
        scores = tuple(replace(one, **fields) for one in record.measured.scores)
        return replace(record, measured=replace(record.measured, scores=scores))

    return change


def in_memory(record: Record) -> Record:
    """The images are the pack's."""
    assert record.experiment is not None
    return replace(record, experiment=change(record.experiment, data="pack", caption_lengths="web"))


def of_unrelated_images(record: Record) -> Record:
    """A million images of an unrelated folder, whose towers are right in a tenth of the answers."""
    assert record.experiment is not None
    changed = replace(
        record, experiment=change(record.experiment, images=10**6, warmup_images=10**5, data="/data/cats")
    )
    if isinstance(record.measured, Transfer):
        right = record.measured.scores[0].correct.count("1") - RIGHT + 5_000
        changed = of_kind(Transfer, images=10**6)(changed)
        return with_scores(correct="1" * right + "0" * (50_000 - right))(changed)
    return changed


def without_training(records: Sequence[Record]) -> list[Record]:
    return [one for one in records if not isinstance(one.measured, Training)]


def deciding(card: ClaimCard) -> bool:
    return card.judgement.verdict != "not testable here because"


@pytest.mark.parametrize(("claim", "records"), [(SPEED, speed_of_the_pair()), (ACCURACY, towers()), (BATCH, batches())])
def test_records_that_meet_all_conditions_decide(claim: PaperClaim, records: list[Record]) -> None:
    card = make_card(claim, records)
    assert deciding(card), card.judgement.verdict_clause
    assert not card.others
    assert card.deciding


CASES: dict[str, tuple[PaperClaim, Sequence[Record], Callable[[Record], Record], Sequence[str]]] = {
    "unrelated images": (
        ACCURACY,
        towers(),
        of_unrelated_images,
        [
            "images of clip: 1000000, needed 13482666667",
            "images of catlip: 1000000, needed 16666584615",
            "images seen by clip: 1,000,000, needed 13,482,666,667",
            "training data: /data/cats, needed a path with 'datacomp'",
            "the baseline's accuracy: 10.0 %, needed 84.4 %",
        ],
    ),
    "fewer images seen": (
        ACCURACY,
        towers(),
        of_kind(Transfer, images=10**9),
        ["images seen by clip: 1,000,000,000, needed 13,482,666,667"],
    ),
    "another data set": (
        ACCURACY,
        towers(),
        with_experiment(data="/data/cc12m"),
        ["training data: /data/cc12m, needed a path with 'datacomp'"],
    ),
    "a smaller global batch": (
        ACCURACY,
        towers(),
        with_circumstances(processes=8),
        ["images per step of clip: 2,048, needed 65,536", "images per step of catlip: 8,192, needed 65,536"],
    ),
    "a part of the task": (
        ACCURACY,
        towers(),
        with_scores(num_train=12_811),
        ["training images of the task: 12,811, needed 1,281,167"],
    ),
    "fewer classes": (ACCURACY, towers(), with_scores(num_classes=100), ["classes of the task: 100, needed 1,000"]),
    "other crops": (
        ACCURACY,
        towers(),
        with_experiment(crop_scale=(0.5, 1.0)),
        ["crop_scale of clip: (0.5, 1.0), needed (0.9, 1.0)", "crop_scale of catlip: (0.5, 1.0), needed (0.08, 1.0)"],
    ),
    "poor towers": (
        ACCURACY,
        towers(5_000),
        lambda one: one,
        ["the baseline's accuracy: 10.0 %, needed 84.4 %"],
    ),
    "a CPU": (SPEED, speed_of_the_pair(), lambda one: replace(one, circumstances=HERE), ["GPU: none, needed A100"]),
    "another GPU": (
        SPEED,
        speed_of_the_pair(),
        with_circumstances(machine="NVIDIA H100 80GB HBM3; Example CPU"),
        ["GPU: NVIDIA H100 80GB HBM3, needed A100"],
    ),
    "a slice of the GPU": (
        SPEED,
        speed_of_the_pair(),
        with_circumstances(machine="NVIDIA A100-SXM4-80GB MIG 3g.40gb; Example CPU"),
        ["GPU: NVIDIA A100-SXM4-80GB MIG 3g.40gb, needed A100"],
    ),
    "another precision": (
        SPEED,
        speed_of_the_pair(),
        with_experiment(precision="fp32"),
        ["precision of clip: fp32, needed fp16"],
    ),
    "one image size": (
        SPEED,
        speed_of_the_pair(),
        with_experiment(image_sizes=()),
        ["image_sizes of clip: (), needed (160, "],
    ),
    "a smaller batch": (
        SPEED,
        speed_of_the_pair(),
        with_experiment(batch_size=64),
        ["batch_size of clip: 64, needed 256", "batch_size of catlip: 64, needed 1024"],
    ),
    "images from memory": (
        SPEED,
        speed_of_the_pair(),
        in_memory,
        ["images: from memory, needed from shards on disk"],
    ),
    "a smaller classifier": (
        SPEED,
        speed_of_the_pair(),
        with_experiment(synset_vocabulary="/data/synsets.tsv"),
        ["rows of the classifier: those of /data/synsets.tsv, needed 24320"],
    ),
    "one process": (BATCH, batches(), with_circumstances(processes=1), ["processes: 1, needed 4"]),
    "another limit": (
        BATCH,
        batches(),
        of_kind(BatchTrial, limit_bytes=80 * GIB),
        ["memory limit: 80 GiB, needed 32 GiB"],
    ),
    "trials on a CPU": (BATCH, batches(), with_circumstances(device="cpu"), ["device: cpu, needed a GPU"]),
}


@pytest.mark.parametrize("name", CASES)
def test_records_that_miss_a_condition_decide_nothing_and_it_is_named(name: str) -> None:
    claim, records, change, missed = CASES[name]
    without = make_card(claim, [])
    card = make_card(claim, [change(one) for one in records])
    assert not deciding(card), card.judgement.verdict_clause
    assert not card.deciding
    assert card.factors == without.factors
    other = card.others[0]
    for text in missed:
        assert any(one.startswith(text) for one in other.evidence.missed), other.evidence.missed
    assert other.evidence.missed[0] in card.judgement.detail


def test_a_tower_without_the_record_of_its_training_decides_nothing() -> None:
    card = make_card(ACCURACY, without_training(towers()))
    assert not deciding(card)
    (other,) = card.others
    assert "images per step of clip: no record of the training, needed 65,536" in other.evidence.missed


def test_disturbed_runs_decide_nothing() -> None:
    """The threads of all runs waited for cores for most of the time."""

    def slower(record: Record) -> Record:
        windows = len(record.measured.window_seconds)  # type: ignore[union-attr]
        return replace(record, measured=replace(record.measured, window_core_waits=(5.0,) * windows))

    claim = get_claim("flip-0.50x")
    records = speed_records(claim, (5.0, 5.7), rounds=10)
    assert deciding(make_card(claim, records))
    card = make_card(claim, [slower(one) for one in records])
    assert not deciding(card)
    assert "other work on the machine disturbed the runs" in card.judgement.detail


def test_towers_that_miss_a_condition_are_shown_beside_those_that_decide() -> None:
    """They change neither the verdict nor the figures of the deciding evidence."""
    short = [
        of_unrelated_images(with_experiment(seed=one.experiment.seed + 10)(one)) for one in towers() if one.experiment
    ]
    alone, both = make_card(ACCURACY, towers()), make_card(ACCURACY, towers() + short)
    assert both.judgement == alone.judgement
    assert [one.evidence for one in both.deciding] == [one.evidence for one in alone.deciding]
    assert len(both.others) == 1


@pytest.mark.parametrize(("seeds", "is_decided"), [(5, True), (4, False)])
def test_accuracies_are_compared_over_five_common_seeds(seeds: int, is_decided: bool) -> None:
    records = [
        one
        for seed in range(seeds)
        for one in tower_records(TRANSFER, 0, seed, (8_000 + 500 * seed, 15_000 + 500 * seed))
    ]
    card = make_card(TRANSFER, records)
    assert deciding(card) == is_decided, card.judgement.verdict_clause
    (found,) = card.deciding
    assert found.evidence.effect.value == pytest.approx(14.0)


def test_towers_of_smaller_budgets_and_without_training_do_not_count() -> None:
    records = [
        one
        for seed in range(5)
        for one in (
            *tower_records(TRANSFER, 0, seed, (8_000, 15_000)),
            *tower_records(TRANSFER, 0, seed, (45_000, 5_000), images=1),
            *tower_records(TRANSFER, 0, seed, (45_000, 5_000), images=0, subject="random init"),
        )
    ]
    (found,) = make_card(TRANSFER, records).deciding
    assert found.evidence.effect.value == pytest.approx(14.0)


def test_the_largest_batches_are_compared_by_the_bounds_of_their_trials() -> None:
    card = make_card(BATCH, batches())
    assert card.judgement.verdict == "reproduced", card.judgement.verdict_clause
    found = card.to_display_scale(card.deciding[0].evidence.effect)
    assert (found.value, found.low, found.high) == pytest.approx((2.0, 1000 / 504, 1008 / 500))
    card = make_card(BATCH, trials(BATCH, 0, 500, 504) + trials(BATCH, 1, 560, 568))
    assert card.judgement.verdict == "not reproduced"


@pytest.mark.parametrize("name", read_claims())
def test_a_claim_that_records_decide_has_conditions_in_words(name: str) -> None:
    claim = get_claim(name)
    assert bool(describe_conditions(claim)) == (claim.metric not in ("FLOPs", "zero-shot accuracy"))
    if claim.conditions is not None and claim.conditions.data:
        assert claim.conditions.data in SHARDS
