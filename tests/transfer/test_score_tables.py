"""Tables of accuracies: their figures are those of the records, their costs those of the speed records."""

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from bench.config import Experiment, change
from bench.console.tables import print_tables
from bench.experiments import get_experiment
from bench.measure.throughput import images_per_second
from bench.record import Flops, Record, Transfer
from bench.scores import MetricScore, Score, TaskTraining
from bench.statistics import accuracy_interval, estimate_over_draws
from bench.tables import Table
from bench.transfer.score_tables import (
    all_transfer_tables,
    budget_table,
    correct_per_item,
    curve_tables,
    metric_tables,
    whole_task_tables,
)
from tests.small import circumstances
from tests.speeds import speed

HERE = circumstances()
CLIP = get_experiment("clip-tiny")
FLOOR = "random init"


def score(right: int, **changes: object) -> Score:
    return replace(
        Score(
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


def scored(
    subject: str, seed: int, *scores: Score, metrics: tuple[MetricScore, ...] = (), images: int = 80_000
) -> Record:
    trained = subject == CLIP.name
    budgets = ("equal images", "equal device seconds") if trained else ()
    measured = Transfer(
        subject=subject, images=images if trained else 0, budgets=budgets, scores=scores, metrics=metrics
    )
    of = None if subject == "raw pixels" else change(CLIP, seed=seed)
    return Record(comparison="c", experiment=of, circumstances=HERE, measured=measured)


def timed(**utilisation: float) -> Record:
    measured = speed(
        flops=Flops(image_forward=1, text_forward=1, forward=2, step=6),
        utilisation=utilisation,
        not_measured={} if utilisation else {"power W": "NVMLError: no GPU"},
    )
    return Record(comparison="c", experiment=CLIP, circumstances=HERE, measured=measured)


def test_each_protocol_has_a_table_with_intervals_over_images() -> None:
    records = [
        scored(CLIP.name, 0, score(60)),
        scored(CLIP.name, 0, score(50, protocol="k-NN")),
        scored(FLOOR, 0, score(40)),
    ]
    probe, neighbours = whole_task_tables(records)
    assert [row["features"] for row in probe.rows] == [FLOOR, CLIP.name]
    assert [row["rooms"][0] for row in probe.rows] == [0.4, 0.6]
    assert all(low < figure < high for figure, low, high in (row["rooms"] for row in probe.rows))
    assert [row["rooms"][0] for row in neighbours.rows] == [0.5]


def test_a_curve_is_a_mean_over_draws_and_its_interval_is_over_them_and_the_items() -> None:
    rights = (20, 30, 40)
    points = [score(right, protocol="few-shot", per_class=2, draw=draw) for draw, right in enumerate(rights)]
    (table,) = curve_tables([scored(CLIP.name, 0, score(60)), scored(CLIP.name, 0, *points)])
    assert table.title == "few-shot on rooms"
    expected = estimate_over_draws({"": {draw: correct_per_item(point) for draw, point in enumerate(points)}})
    assert table.rows[0]["2 per class"] == pytest.approx((0.3, expected.low, expected.high))
    assert "3 draws" in table.note
    assert "training seed" in table.note


def test_budgets_cost_device_seconds_and_energy_where_they_were_measured() -> None:
    records = [
        *(scored(CLIP.name, seed, score(right)) for seed, right in enumerate((50, 60, 70))),
        scored(FLOOR, 0, score(40)),
    ]
    bare = budget_table(records)
    assert [row["budget"] for row in bare.rows] == ["equal images", "equal device seconds", "reference"]
    assert all(row["device s"] is None and row["energy kJ"] is None for row in bare.rows)
    assert "has none" in bare.note
    rate = images_per_second(CLIP, timed().measured)
    unpowered = budget_table([*records, timed()])
    assert unpowered.rows[0]["device s"] == pytest.approx(80_000 / rate)
    assert unpowered.rows[0]["energy kJ"] is None
    assert "NVMLError: no GPU" in unpowered.note
    powered = budget_table([*records, timed(**{"power W": 250.0})])
    assert powered.rows[0]["energy kJ"] == pytest.approx(250 * 80_000 / rate / 1000)
    assert powered.rows[0]["seeds"] == 3
    figure, low, high = powered.rows[0]["rooms"]
    assert figure == pytest.approx(0.6)
    assert low < figure < high
    assert "equal steps are equal images" in powered.note


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_budgets_have_intervals_over_the_test_images_of_one_seed_and_over_three_seeds(seeds: int) -> None:
    table = budget_table([scored(CLIP.name, seed, score(60)) for seed in range(seeds)])
    over_images = accuracy_interval([1.0] * 60 + [0.0] * 40)
    figure, low, high = table.rows[0]["rooms"]
    assert figure == 0.6
    assert ((low, high) == (over_images.low, over_images.high)) == (seeds == 1)
    assert (low is None) == (high is None) == (seeds == 2)
    assert "of one seed over the test images alone" in table.note


@pytest.mark.parametrize(("task", "is_said"), [("Twemoji group", True), ("emoji retrieval", True), ("rooms", False)])
def test_tables_of_all_emoji_say_that_their_concepts_are_known(task: str, is_said: bool) -> None:
    (table,) = whole_task_tables([scored(CLIP.name, 0, score(60, task=task))])
    assert ("a known concept is found in another style" in table.note) == is_said
    assert "are new to a tower" not in table.note


def test_tables_of_unseen_concepts_say_which_towers_know_them() -> None:
    (table,) = whole_task_tables([scored(CLIP.name, 0, score(60, task="unseen subgroup"))])
    assert "unseen subgroup are new to a tower that was pre-trained with subset=seen-concepts" in table.note
    assert "a known concept is found in another style" not in table.note


def test_metrics_are_listed_with_their_trivial_baseline() -> None:
    def metric(name: str, value: float) -> MetricScore:
        return MetricScore(
            task="scenes", protocol="dense", name=name, value=value, num_train=9, num_test=4, baseline=0.1
        )

    records = [scored(name, 0, metrics=(metric("mIoU", value),)) for name, value in ((CLIP.name, 0.4), (FLOOR, 0.2))]
    (table,) = metric_tables(records)
    assert [(row["features"], row["mIoU"]) for row in table.rows] == [
        (FLOOR, (0.2, None, None)),
        (CLIP.name, (0.4, None, None)),
        ("trivial baseline", 0.1),
    ]


def test_tables_name_the_trainings_of_their_scores() -> None:
    def trained(rate: float) -> Score:
        training = TaskTraining(
            image_size=512,
            batch_size=512,
            steps=25_023,
            warmup_steps=500,
            learning_rate=rate,
            layer_decay=1.0,
            is_averaged=True,
        )
        return score(60, protocol="fine-tune-512px", training=training)

    records = [scored(CLIP.name, 0, score(50), trained(3e-5)), scored(FLOOR, 0, trained(1e-4))]
    probe, fine_tuned = whole_task_tables(records)
    assert "Trained with" not in probe.note
    line = "Trained with 512 px, batches of 512, 25,023 steps with 500 of warm-up."
    assert fine_tuned.note.splitlines()[-1] == line


def test_figures_are_shown_with_their_interval_and_written_with_its_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_tables(
        all_transfer_tables([scored(CLIP.name, 0, score(60)), scored("raw pixels", 0, score(30))]), tmp_path / "x.json"
    )
    assert "0.600 ±0.094" in capsys.readouterr().out
    written = json.loads((tmp_path / "x.json").read_text())
    assert written["Transfer: linear probe"]["rows"][1]["rooms"][0] == 0.6


def test_tables_of_towers_of_own_data_say_once_that_drawings_score_them() -> None:
    own = change(CLIP, data="my shards")
    drawings = "The towers were trained on my shards and scored on drawings of the shipped pack, such as emoji: --root"

    def tables(experiment: Experiment, task: str) -> list[Table]:
        scores = [replace(score(60, task=task), protocol=protocol) for protocol in ("linear probe", "k-NN")]
        records = [scored(CLIP.name, 0, one) for one in scores]
        return whole_task_tables([replace(one, experiment=experiment) for one in records])

    first, second = tables(own, "unseen subgroup")
    assert first.note.count(drawings) == 1
    assert "drawings" not in second.note
    assert "are new to a tower" not in first.note + second.note
    for others in (tables(CLIP, "unseen subgroup"), tables(own, "my classes")):
        assert not any("drawings" in table.note for table in others)
