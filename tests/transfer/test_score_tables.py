"""Tables of accuracies: their figures are those of the records, their costs those of the speed records."""

from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from bench.experiment.config import change
from bench.experiment.experiments import get_experiment
from bench.measure.comparison_records import select_comparison_records
from bench.measure.timed_run import TimedRun
from bench.records.record import Record, StepFlops, TransferScores
from bench.records.scores import AccuracyScore
from bench.statistics.intervals import accuracy_with_wilson_interval
from bench.tables.tables import Table
from bench.transfer.score_tables import task_accuracy_table
from bench.transfer.subject_scores import collect_full_label_scores
from bench.transfer.terminal_tables import make_transfer_tables
from tests.small import circumstances
from tests.speeds import speed

HERE = circumstances()
CLIP = get_experiment("clip-tiny")
FLOOR = "random init"


def score(right: int, **changes: object) -> AccuracyScore:
    return replace(
        AccuracyScore(
            task="rooms",
            protocol="linear probe",
            chosen=0.1,
            validation_accuracy=0.5,
            converged=True,
            correct="1" * right + "0" * (100 - right),
            num_classes=10,
            num_train=50,
            majority=0.2,
        ),
        **changes,
    )


def scored(subject: str, seed: int, *scores: AccuracyScore) -> Record:
    trained = subject == CLIP.name
    budgets = ("equal images", "equal device seconds") if trained else ()
    measured = TransferScores(
        subject=subject, images=80_000 if trained else 0, budgets=budgets, scores=scores
    )
    of = None if subject == "raw pixels" else change(CLIP, seed=seed)
    return Record(comparison="c", experiment=of, circumstances=HERE, measured=measured)


def timed(**utilisation: float) -> Record:
    measured = speed(
        flops=StepFlops(image_forward=1, text_forward=1, forward=2, step=6),
        utilisation=utilisation,
        not_measured={} if utilisation else {"power W": "NVMLError: no GPU"},
    )
    return Record(comparison="c", experiment=CLIP, circumstances=HERE, measured=measured)


def tables_of(records: Sequence[Record]) -> dict[str, Table]:
    return {table.title: table for table in make_transfer_tables(records) if table.all_rows}


def table_of_task(records: Sequence[Record]) -> Table:
    comparison = select_comparison_records("", records)
    scores = collect_full_label_scores(comparison)
    return task_accuracy_table(comparison, scores, "rooms", scores.protocols("rooms"))


def test_each_protocol_has_a_table_of_the_towers_of_each_seed_with_intervals_over_images() -> None:
    records = [
        *(scored(CLIP.name, seed, score(60 + seed)) for seed in range(2)),
        scored(CLIP.name, 0, score(50, protocol="k-NN")),
        scored(FLOOR, 0, score(40)),
    ]
    tables = tables_of(records)
    probe, neighbours = tables["Transfer: linear probe"], tables["Transfer: k-NN"]
    assert [(row["features"], row["seed"]) for row in probe.rows] == [
        (CLIP.name, 0),
        (CLIP.name, 1),
        (FLOOR, 0),
    ]
    assert [row["rooms"][0] for row in probe.rows] == [0.6, 0.61, 0.4]
    assert all(low < figure < high for figure, low, high in (row["rooms"] for row in probe.rows))
    assert [row["rooms"][0] for row in neighbours.rows] == [0.5]


def test_costs_are_those_of_the_speed_records() -> None:
    towers = [scored(CLIP.name, 0, score(60)), scored(FLOOR, 0, score(40))]
    untimed, without_power, with_power = (
        table_of_task([*towers, *speeds])
        for speeds in ([], [timed()], [timed(**{"power W": 250.0})])
    )
    assert [row["group"] for row in untimed.rows] == [
        "After 80,000 images",
        "After equal device seconds",
        "Lower bounds, without training",
    ]
    assert all(row["device seconds"] is None for row in untimed.rows)
    seconds = 80_000 / TimedRun(CLIP, timed().measured).images_per_second_preferably_undisturbed()
    assert without_power.rows[0]["device seconds"] == pytest.approx(seconds)
    assert "energy" not in without_power.rows[0]
    assert with_power.rows[0]["energy"] == pytest.approx(0.25 * seconds)
    assert with_power.rows[0]["on the Pareto front"] == "device seconds and energy"


def test_tower_without_a_budget_is_no_reference() -> None:
    record = scored(CLIP.name, 0, score(60))
    record = replace(record, measured=replace(record.measured, budgets=()))
    (row,) = table_of_task([record]).rows
    assert row["group"] == "After 80,000 images"


def test_tower_of_another_project_gains_over_its_own_random_init() -> None:
    rights = {"vit": 60, "random init of vit": 45, FLOOR: 40, "raw pixels": 42}
    records = [
        replace(scored(name, 0, score(right)), experiment=None) for name, right in rights.items()
    ]
    rows = {row["features"]: row["gain"] for row in table_of_task(records).rows}
    assert rows["vit"][0] == pytest.approx(0.15)
    assert rows["raw pixels"][0] == pytest.approx(0.02)
    assert rows["random init of vit"] is None


def test_features_without_seeds_gain_over_the_random_inits_of_all_seeds() -> None:
    records = [
        *(scored(FLOOR, seed, score(40 + seed)) for seed in range(3)),
        scored("raw pixels", 0, score(50)),
    ]
    random_init, pixels = table_of_task(records).rows
    figure, low, high = pixels["gain"]
    assert figure == pytest.approx(pixels["linear probe"][0] - random_init["linear probe"][0])
    assert low < figure < high


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_intervals_are_over_the_test_images_of_one_seed_and_over_three_seeds(seeds: int) -> None:
    table = table_of_task([scored(CLIP.name, seed, score(60)) for seed in range(seeds)])
    over_images = accuracy_with_wilson_interval([1.0] * 60 + [0.0] * 40)
    figure, low, high = table.rows[0]["linear probe"]
    assert figure == 0.6
    assert ((low, high) == (over_images.low, over_images.high)) == (seeds == 1)
    assert (low is None) == (high is None) == (seeds == 2)


def test_references_are_lower_or_upper_bounds() -> None:
    rights = {"raw pixels": 30, "HOG and colour": 40, "EfficientNet-Lite0": 70}
    records = [
        replace(scored(name, 0, score(right)), experiment=None) for name, right in rights.items()
    ]
    rows = table_of_task(records).rows
    lower, upper = "Lower bounds, without training", "Upper bound"
    assert [(row["group"], row["features"]) for row in rows] == [
        (lower, "raw pixels"),
        (lower, "HOG and colour"),
        (upper, "EfficientNet-Lite0"),
    ]
