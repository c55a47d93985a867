"""A folder's page has what belongs together, as one comparison would show it, and says why the rest is not on it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bench.experiment.config import change
from bench.measure.comparison_records import group_comparison
from bench.records.record import Memory, Record, Speed, Training, TransferScores
from bench.records.scores import Score
from bench.transfer.subject_scores import whole_task_scores
from reports.__main__ import main
from reports.joined import join_comparisons
from reports.page import page
from tests.reports.conftest import first_screen, written
from tests.reports.test_page import Document

Make = dict[str, Callable[..., Any]]
MEASURE, TRAIN, SCORE = (
    "20260101T000000-measure",
    "20260102T000000-train",
    "20260103T000000-transfer-0123abcd",
)


def changed(record: Record, **fields: Any) -> Record:
    assert record.experiment is not None
    return replace(record, experiment=change(record.experiment, **fields))


def own(record: Record) -> Record:
    """The record as a training leaves it that counted its own vocabulary: under another name, for other images."""
    one, measured = record.experiment, record.measured
    if one is None:
        return record
    name = f"{one.name}[data=shards]"
    if isinstance(measured, TransferScores) and measured.subject == one.name:
        measured = replace(measured, subject=name)
    return replace(
        changed(
            record, name=name, images=640, warmup_images=64, synset_vocabulary=f"{one.name}.json"
        ),
        measured=measured,
    )


def split(
    records: list[Record], *, trained_as: Callable[[Record], Record] = lambda one: one
) -> dict[str, list[Record]]:
    """The records of one comparison as those of a measurement, and of a training and a scoring for each method."""
    found: dict[str, list[Record]] = {
        MEASURE: [one for one in records if isinstance(one.measured, Speed | Memory)]
    }
    for number, name in enumerate(
        dict.fromkeys(one.experiment.name for one in records if one.experiment)
    ):
        of_name = [
            trained_as(one) for one in records if one.experiment and one.experiment.name == name
        ]
        found[f"{TRAIN}{number}"] = [one for one in of_name if isinstance(one.measured, Training)]
        references = [one for one in records if one.experiment is None]
        found[f"{SCORE}{number}"] = [
            one for one in of_name if isinstance(one.measured, TransferScores)
        ] + references
    return dict(sorted(found.items()))


def figures(text: str) -> dict[str, list[list[str]]]:
    return {
        title: sorted(rows)
        for title, rows in Document(text).tables.items()
        if "settings" not in title
    }


def test_joined_parts_show_the_figures_of_the_whole(whole: list[Record], whole_page: str) -> None:
    joined = join_comparisons(split(whole))
    assert not joined.left_out
    assert len(joined.records) == len(whole)
    assert figures(page("one", joined.records)) == figures(whole_page)


def test_towers_of_another_name_and_vocabulary_stand_in_the_rows_of_their_speeds(
    whole: list[Record],
) -> None:
    joined = join_comparisons(split(whole, trained_as=own))
    document = Document(first_screen("one", joined.records))
    rows = document.tables["The answer in figures"]
    assert len(rows) == 5
    assert all("–" not in row[1] for row in rows[1:])


def test_timed_runs_are_those_of_one_comparison(make: Make) -> None:
    runs = {
        name: [make["speed"](name, number) for number in range(5)]
        for name in ("clip-tiny", "catlip-tiny")
    }
    joined = join_comparisons(
        {MEASURE: runs["clip-tiny"], "20260104T000000-measure": runs["catlip-tiny"]}
    )
    assert joined.records == runs["catlip-tiny"]
    assert joined.left_out == {MEASURE: "it adds no speed, training or score to this page"}


def test_interrupted_measurement_does_not_take_the_page_over(make: Make) -> None:
    newest = {"20260104T000000-measure": [make["memory"]("clip-tiny")]}
    joined = join_comparisons({MEASURE: [make["speed"]("clip-tiny", 0)]} | newest)
    assert joined.comparisons == [MEASURE]
    assert joined.left_out == {
        "20260104T000000-measure": "it adds no speed, training or score to this page"
    }
    assert join_comparisons(newest).comparisons == [*newest]


def test_random_init_baselines_of_two_poolings_stand_apart_and_each_tower_gains_over_its_own(
    make: Make,
) -> None:
    records = make["transfers"](0)
    (baseline,) = [one for one in records if one.measured.subject == "random init"]
    worse = tuple(replace(one, correct="0" * len(one.correct)) for one in baseline.measured.scores)
    pooled = replace(
        changed(baseline, pooling="mean"), measured=replace(baseline.measured, scores=worse)
    )
    tower = next(
        one
        for one in records
        if one.measured.subject == "superclass-tiny" and one.measured.images == 80_000
    )
    own_pooling = next(
        one
        for one in records
        if one.measured.subject == "clip-tiny" and one.measured.images == 80_000
    )
    comparison = group_comparison("x", [baseline, pooled, tower, own_pooling])
    points = whole_task_scores(comparison).main_points("rooms")
    by_subject = {point.subject: point for point in points if point.gain is not None}
    assert by_subject["superclass-tiny"].gain.value == by_subject["superclass-tiny"].accuracy.value
    assert by_subject["clip-tiny"].gain.value < by_subject["clip-tiny"].accuracy.value
    assert [len(point.runs) for point in points if point.subject == "random init"] == [1, 1]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"tower": "ViT-B-32"}, "it differs in tower: catlip-bench-tiny / ViT-B-32"),
        ({"data": "shards"}, "it differs in data: pack / shards"),
        ({"batch_size": 64}, "it differs in batch_size: 128 / 64"),
    ],
)
def test_other_settings_are_not_joined(fields: dict[str, Any], reason: str, make: Make) -> None:
    older = changed(make["training"]("catlip-tiny", 0), **fields)
    assert join_comparisons(
        {TRAIN: [older], MEASURE: [make["speed"]("clip-tiny", 0)]}
    ).left_out == {TRAIN: reason}


def test_other_machines_are_not_joined(make: Make) -> None:
    speed = make["speed"]("clip-tiny", 0)
    other = replace(speed.circumstances, machine="another")
    older = replace(make["training"]("clip-tiny", 0), circumstances=other)
    reason = f"it differs in machine: {speed.circumstances.machine} / another"
    assert join_comparisons({TRAIN: [older], MEASURE: [speed]}).left_out == {TRAIN: reason}


def test_a_tower_is_of_the_newest_training_and_of_its_other_seeds(make: Make) -> None:
    def trained(day: int, seed: int, images: int) -> tuple[str, list[Record]]:
        records = [
            changed(one, images=images)
            for one in (make["training"]("clip-tiny", seed), *make["transfers"](seed))
        ]
        return f"2026010{day}T000000-train", [
            one for one in records if one.experiment.name == "clip-tiny"
        ]  # type: ignore[union-attr]

    joined = join_comparisons(
        dict([trained(1, 1, 40_000), trained(2, 2, 80_000), trained(3, 0, 80_000)])
    )
    assert joined.comparisons == ["20260103T000000-train", "20260102T000000-train"]
    assert joined.left_out == {
        "20260101T000000-train": "it adds no speed, training or score to this page"
    }
    experiments = [one.experiment for one in joined.records if one.experiment is not None]
    assert {one.seed for one in experiments} == {0, 2}
    assert {one.training.images for one in experiments} == {80_000}


def test_a_task_of_the_same_name_with_other_images_is_not_joined(make: Make) -> None:
    first, second = (
        [one for one in make["transfers"](seed) if one.measured.subject == "clip-tiny"]
        for seed in (0, 1)
    )

    def fewer(score: Score) -> Score:
        return replace(score, correct=score.correct[1:])

    other = [
        replace(one, measured=replace(one.measured, scores=tuple(map(fewer, one.measured.scores))))
        for one in first
    ]
    joined = join_comparisons({SCORE: other, f"{SCORE}1": second})
    assert joined.left_out == {SCORE: "its task unseen subgroup has other test images"}


def test_page_of_a_folder_joins_the_folders_of_its_trainings(
    whole: list[Record], whole_page: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, records in split(whole).items():
        folder = tmp_path if name == MEASURE else tmp_path / name.partition("-")[2]
        written([replace(one, comparison=name) for one in records], folder)
        (folder / f"{name}.tower.x.safetensors").touch()
    (tmp_path / "history").mkdir()
    written([replace(whole[0], comparison="20260104T000000-history")], tmp_path / "history")
    assert main(["build", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "index.html")
    document = Document((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert (
        document.tables["The answer in figures"]
        == Document(whole_page).tables["The answer in figures"]
    )
    assert "transfer-0123abcd3/20260103T000000-transfer-0123abcd3" in document.words()
    assert "20260104T000000-history" not in document.words()
    assert main(["build", str(tmp_path), "--comparison", MEASURE]) == 0
    alone = Document((tmp_path / "index.html").read_text(encoding="utf-8")).words()
    assert "No tower was scored in this comparison" in alone
    assert "Other comparisons in the same folder" in alone


def test_folder_in_which_every_run_failed_has_a_page(make: Make, tmp_path: Path) -> None:
    results = written([make["failure"](reason="no memory left")], tmp_path)
    assert main(["build", str(results)]) == 0
    document = Document((results / "index.html").read_text(encoding="utf-8"))
    assert "1 run failed." in document.words()
    assert "no memory left" in document.words()
