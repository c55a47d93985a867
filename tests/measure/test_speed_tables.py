"""The tables of speed, phases and memory: equal on a terminal and on a page, but for names and what is beneath."""

from pathlib import Path

import pytest

from bench.experiment.experiments import EXPERIMENTS
from bench.measure.comparison_records import (
    select_comparable_experiment_records,
    select_comparison_records,
)
from bench.measure.speed_tables import (
    memory_utilisation_and_parameter_table,
    step_phase_table,
    throughput_table,
    with_note_on_setting_differences,
)
from bench.records.record import Record, read_record
from tests.small import circumstances
from tests.speeds import speed

RECORDS = [
    read_record(path)
    for path in sorted((Path(__file__).parents[1] / "records").glob("*-smoke.*.json"))
]


def timed(name: str, round_: int = 0) -> Record:
    measured = speed(round=round_, window_seconds=(1.0 + round_,))
    return Record(
        comparison="c",
        experiment=EXPERIMENTS[name],
        circumstances=circumstances(),
        measured=measured,
    )


def test_experiments_stand_in_the_given_order_and_the_first_that_was_timed_is_the_base() -> None:
    names = ["superclass-tiny", "catlip-tiny", "clip-tiny"]
    found = select_comparable_experiment_records(
        [timed("clip-tiny"), timed("siglip-tiny"), timed("catlip-tiny")], names
    )
    assert found.base == "catlip-tiny"
    assert [row["experiment"] for row in throughput_table(found).rows] == [
        "catlip-tiny",
        "clip-tiny",
    ]


def test_page_and_terminal_have_the_same_figures() -> None:
    on_page = select_comparison_records("c", RECORDS)
    in_terminal = select_comparable_experiment_records(RECORDS, [*on_page.experiments])
    for make in (throughput_table, step_phase_table, memory_utilisation_and_parameter_table):
        page, terminal = make(on_page), make(in_terminal)
        assert [row[1:] for row in page.all_rows] == [row[1:] for row in terminal.all_rows] != []
    assert {row["bound"] for row in step_phase_table(in_terminal).rows} == {"compute-bound"}


CLIP_AND_CATLIP = """
learning_rate: 0.0005 / 0.001
synset_head_initialisation: uniform / trunc_normal
crop_scale: (0.9, 1.0) / (0.08, 1.0)
flip: False / True
"""


@pytest.mark.parametrize(
    ("names", "own"),
    [
        (("clip-vit-b16", "catlip-vit-b16"), CLIP_AND_CATLIP),
        (("clip-vit-b16", "siglip-vit-b16"), ""),
    ],
)
def test_the_speed_table_says_which_settings_the_methods_have_of_their_own(
    names: tuple[str, ...], own: str
) -> None:
    found = select_comparable_experiment_records(
        [timed(name, round_) for name in names for round_ in range(2)], names
    )
    note = with_note_on_setting_differences(throughput_table(found), found).note
    settings = note.partition("The methods' own settings: ")[2]
    assert sorted(settings.removesuffix(".").split("; ")) == sorted(own.strip().split("\n"))
