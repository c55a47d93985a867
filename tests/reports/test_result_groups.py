"""A folder's page begins with what belongs together, as one comparison would show it, and shows the rest below."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bench.experiment.config import change
from bench.interfaces.sections import IncomparableResults
from bench.measure.comparison_records import select_comparison_records
from bench.records.record import Memory, Record, Speed, Training, TransferScores
from bench.records.scores import AccuracyScore
from bench.transfer.subject_scores import collect_full_label_scores
from reports.page import render_comparison_page
from reports.result_groups import REPEATED, choose_page_results
from tests.report_command import main
from tests.reports.conftest import (
    first_screen,
    speed_record,
    training_record,
    transfer_records,
    write_records,
)
from tests.reports.test_page import Document

MEASURE, TRAIN, SCORE, LATER = (
    "20260101T000000-measure",
    "20260102T000000-train",
    "20260103T000000-transfer-0123abcd",
    "20260104T000000-measure",
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
            record,
            name=name,
            images_seen=640,
            warmup_images=64,
            synset_vocabulary=f"{one.name}.json",
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
        found[TRAIN.replace("-", f"{number}-")] = [
            one for one in of_name if isinstance(one.measured, Training)
        ]
        references = [one for one in records if one.experiment is None]
        found[f"{SCORE}{number}"] = [
            one for one in of_name if isinstance(one.measured, TransferScores)
        ] + references
    return dict(sorted(found.items()))


def reasons(comparisons: dict[str, list[Record]]) -> dict[str, str]:
    """The comparisons that are not joined with the others, with the reason."""
    _, others = choose_page_results(comparisons)
    return {name: other.reason for other in others for name in other.comparisons}


def figures(text: str) -> dict[str, list[list[str]]]:
    return {
        title: sorted(rows)
        for title, rows in Document(text).tables.items()
        if "settings" not in title
    }


def test_joined_parts_show_the_figures_of_the_whole(whole: list[Record], whole_page: str) -> None:
    joined, others = choose_page_results(split(whole))
    assert not others
    assert len(joined.records) == len(whole)
    assert figures(render_comparison_page("one", joined.records)) == figures(whole_page)


def test_towers_of_another_name_and_vocabulary_stand_in_the_rows_of_their_speeds(
    whole: list[Record],
) -> None:
    joined, _ = choose_page_results(split(whole, trained_as=own))
    document = Document(first_screen("one", joined.records))
    rows = document.tables["The answer in figures"]
    assert len(rows) == 5
    assert all("–" not in row[1] for row in rows[1:])


def test_timed_runs_are_those_of_one_comparison_and_a_smaller_try_is_below() -> None:
    names = ("clip-tiny", "catlip-tiny")
    five = [speed_record(name, number) for name in names for number in range(5)]
    joined, others = choose_page_results({MEASURE: five, LATER: five[:2]})
    assert joined.records == five
    assert [(*other.comparisons, other.reason) for other in others] == [(LATER, REPEATED)]
    joined, _ = choose_page_results({MEASURE: five, LATER: five})
    assert joined.comparisons == [LATER]


def test_results_apart_are_shown_with_speeds_ratios_and_accuracies(whole: list[Record]) -> None:
    other = [changed(record, data="mine") if record.experiment else record for record in whole]
    speeds = [speed_record("clip-tiny", number) for number in range(60)]
    joined, others = choose_page_results({MEASURE: speeds, f"{LATER}-default": other})
    assert joined.records == other
    (apart,) = others
    text = render_comparison_page(
        "x", speeds, incomparable_results=[IncomparableResults(["other"], other, apart.reason)]
    )
    alone = render_comparison_page("y", other)
    for title in ("Throughput of each experiment", "Accuracy on every task"):
        assert Document(text).tables[f"{title}, other"] == Document(alone).tables[title]


@pytest.mark.parametrize("purpose", ["smoke", "explain"])
def test_smoke_tests_and_explanations_stand_alone(purpose: str) -> None:
    records = [training_record("clip-tiny", 0), speed_record("catlip-tiny", 0)]
    measured = speed_record("clip-tiny", 0)
    name = f"20260105T000000-{purpose}"
    comparisons = {
        MEASURE: [replace(measured, comparison=MEASURE)],
        name: [replace(record, comparison=name) for record in records],
    }
    apart = MEASURE if purpose == "explain" else name
    reason = "Results of smoke tests and of explain are not joined with others."
    assert reasons(comparisons) == {apart: reason}


def test_random_init_baselines_of_two_poolings_stand_apart_and_each_tower_gains_over_its_own() -> (
    None
):
    records = transfer_records(0)
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
    comparison = select_comparison_records("x", [baseline, pooled, tower, own_pooling])
    points = collect_full_label_scores(comparison).main_accuracies("rooms")
    by_subject = {point.subject: point for point in points if point.gain is not None}
    assert by_subject["superclass-tiny"].gain.value == by_subject["superclass-tiny"].accuracy.value
    assert by_subject["clip-tiny"].gain.value < by_subject["clip-tiny"].accuracy.value
    assert [len(point.seed_scores) for point in points if point.subject == "random init"] == [1, 1]


@pytest.mark.parametrize(
    ("fields", "difference"),
    [
        ({"tower": "ViT-B-32"}, "tower: catlip-bench-tiny / ViT-B-32"),
        ({"data": "shards"}, "data: shipped-pack / shards"),
        ({"batch_size": 64}, "batch_size: 128 / 64"),
    ],
)
def test_other_settings_are_not_joined(fields: dict[str, Any], difference: str) -> None:
    older = changed(training_record("catlip-tiny", 0), **fields)
    reason = f"They differ from those above in {difference}."
    assert reasons({TRAIN: [older], LATER: [speed_record("clip-tiny", 0)]}) == {TRAIN: reason}


def test_towers_stand_in_columns_of_the_images_that_they_have_seen() -> None:
    def trained(name: str, images: int) -> list[Record]:
        """A training, and the scores of its tower at equal images: of its own comparison, which has no other."""
        (tower,) = [
            record
            for record in transfer_records(0)
            if record.measured.subject == name and record.measured.images == 40_000
        ]
        transfer = replace(tower.measured, images=images, budgets=("equal images",))
        records = [training_record(name, 0), replace(tower, measured=transfer)]
        return [changed(record, images_seen=images, warmup_images=0) for record in records]

    towers = {"clip-tiny": 29_952, "siglip-tiny": 29_952, "catlip-tiny": 6_016}
    comparisons = {f"{TRAIN}-{name}": trained(name, towers[name]) for name in towers}
    joined, others = choose_page_results(comparisons)
    assert not others
    document = Document(first_screen("x", joined.records))
    columns, *rows = document.tables["The answer in figures"]
    titles = [column.split("|")[0] for column in columns]
    assert titles[2:4] == [
        "unseen subgroup after 29,952 images",
        "unseen subgroup after 6,016 images",
    ]
    dashes = {row[0].split("|")[0]: [cell.startswith("–") for cell in row[2:4]] for row in rows}
    assert dashes == {"CLIP": [False, True], "SigLIP": [False, True], "CatLIP": [True, False]}
    assert "at equal images" not in document.words()
    older = {f"{TRAIN}0": trained("clip-tiny", 6_016)}
    assert choose_page_results(older | comparisons)[0].comparisons[-1] == f"{TRAIN}0"


def test_equal_device_seconds_are_those_of_one_comparison() -> None:
    (slowest,) = [
        record
        for record in transfer_records(0)
        if record.measured.subject == "clip-tiny" and len(record.measured.budgets) > 1
    ]
    other = changed(slowest, name="siglip-tiny", method="siglip")
    other = replace(other, measured=replace(other.measured, subject="siglip-tiny"))
    joined, others = choose_page_results({SCORE: [other], f"{SCORE}1": [slowest]})
    assert not others
    rows = Document(first_screen("x", joined.records)).tables["The answer in figures"]
    assert [cell.split("|")[0] for cell in rows[0][2:4]] == [
        "unseen subgroup after 80,000 images",
        "unseen subgroup after equal device seconds",
    ]
    assert [[cell.startswith("–") for cell in row[2:4]] for row in rows[1:]] == [
        [False, False],
        [False, True],
    ]


def test_a_task_of_the_same_name_with_other_images_is_not_joined() -> None:
    first, second = (
        [one for one in transfer_records(seed) if one.measured.subject == "clip-tiny"]
        for seed in (0, 1)
    )

    def fewer(score: AccuracyScore) -> AccuracyScore:
        return replace(score, correct=score.correct[1:])

    other = [
        replace(one, measured=replace(one.measured, scores=tuple(map(fewer, one.measured.scores))))
        for one in first
    ]
    reason = "Their task unseen subgroup has other test images."
    assert reasons({SCORE: other, f"{SCORE}1": second}) == {SCORE: reason}


def test_page_of_a_folder_joins_the_folders_of_its_trainings(
    whole: list[Record], whole_page: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, records in split(whole).items():
        folder = tmp_path / "training" if name.endswith("-train") else tmp_path
        write_records([replace(one, comparison=name) for one in records], folder)
    (tmp_path / "history").mkdir()
    write_records([replace(whole[0], comparison="20260104T000000-history")], tmp_path / "history")
    assert main(["build", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "index.html")
    document = Document((tmp_path / "index.html").read_text(encoding="utf-8"))
    assert (
        document.tables["The answer in figures"]
        == Document(whole_page).tables["The answer in figures"]
    )
    assert "training/20260102T0000003-train" in document.words()
    assert "20260104T000000-history" not in document.words()
    assert main(["build", str(tmp_path), "--only-comparison", MEASURE]) == 0
    alone = Document((tmp_path / "index.html").read_text(encoding="utf-8")).words()
    assert "No tower was scored in this comparison" in alone
    assert "Other results in this folder" not in alone


@pytest.mark.parametrize("damaged", [1, 2])
def test_damaged_records_of_any_comparison_are_named_and_the_exit_code_is_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damaged: int
) -> None:
    """One damaged record of an older training that is not joined, or all of its records."""
    write_records([speed_record("clip-tiny", 0)], tmp_path)
    trainings = [training_record(name, 0) for name in ("clip-tiny", "catlip-tiny")]
    older = [replace(changed(record, data="mine"), comparison=TRAIN) for record in trainings]
    write_records(older, tmp_path / "training")
    files = sorted((tmp_path / "training").iterdir())
    for file in files[:damaged]:
        file.write_text("{")
    assert main(["build", str(tmp_path)]) == 3
    words = Document((tmp_path / "index.html").read_text(encoding="utf-8")).words()
    err = capsys.readouterr().err
    for file in files:
        assert (file.name in err) == (file.name in words) == (file in files[:damaged])
