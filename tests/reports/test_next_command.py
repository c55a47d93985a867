"""The command that a page proposes adds what its records lack, and is one that the program takes."""

import html
import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from bench.cli.compare import Measure
from bench.cli.main import parse
from bench.cli.verbs import VERBS
from bench.console.console import PROGRAM
from bench.experiment.config import change
from bench.experiment.settings import with_settings
from bench.interfaces.sections import PageContext
from bench.measure.comparison_records import group_comparison
from bench.records.record import Record, Transfer
from bench.transfer.subject_scores import whole_task_scores
from reports.page import page
from reports.questions import reader_questions
from tests.reports.conftest import first_screen, short
from tests.reports.test_answer import timed

Make = dict[str, Callable[..., Any]]
NEXT = "What do I do next?"
EXPLAIN = "explain catlip-tiny --baseline clip-tiny"
pytestmark = pytest.mark.skipif("explain" not in VERBS, reason="the feature explain is not here")


def answer(name: str, records: list[Record], question: str = NEXT, **options: str) -> str:
    """What the page of the records answers to a question."""
    comparison = group_comparison(name, records)
    context = PageContext(comparison=comparison, largest=None, records=records, **options)
    return " ".join(reader_questions(context, whole_task_scores(comparison)).facts.get(question, ()))


def commands_in(text: str) -> list[str]:
    """The command lines in a text, without the program's name."""
    found = [html.unescape(one) for one in re.findall("<code>(.*?)</code>", text)]
    return [one.removeprefix(PROGRAM).strip() for one in found if one.startswith(PROGRAM)]


def commands(*of: Any, **options: str) -> list[str]:
    return commands_in(answer(*of, **options))


def renamed(records: list[Record], *settings: str) -> list[Record]:
    return [
        replace(one, experiment=with_settings(one.experiment, settings))
        for one in records
        if one.experiment is not None
    ]


def scored(make: Make, seeds: int) -> list[Record]:
    """A whole comparison of ten rounds, with one score of each tower."""
    records = make["whole"](rounds=10, seeds=seeds)
    return [*map(short, records)]


@pytest.mark.parametrize(
    ("name", "build", "command"),
    [
        ("1-smoke", lambda make: timed(make, 1), ""),
        ("1-default", lambda make: [*timed(make), make["failure"]()], "--resume"),
        ("1-full", lambda make: [*timed(make), make["failure"]()], "--full --resume"),
        ("1-measure", lambda make: timed(make)[::2], "measure clip-tiny catlip-tiny"),
        ("1-measure", lambda make: timed(make, 3), "measure clip-tiny catlip-tiny --rounds 10"),
        ("1-measure", timed, ""),
        ("1-default", lambda make: scored(make, 1), "--full"),
        ("1-full", lambda make: scored(make, 3), EXPLAIN),
        (
            "1-train",
            lambda make: scored(make, 2),
            "train clip-tiny --set seed=2 --images 80000 --out results/clip-tiny-2",
        ),
        ("1-train", lambda make: scored(make, 5), EXPLAIN),
        ("1-measure", lambda make: renamed(timed(make), "batch_size=64"), f"{EXPLAIN} --set batch_size=64"),
    ],
)
def test_next_command_adds_what_the_records_lack(
    make: Make, name: str, build: Callable[[Make], list[Record]], command: str
) -> None:
    assert commands(name, build(make)) == [command]
    parse(shlex.split(command))


def test_ratio_at_a_larger_size_has_its_commands(make: Make) -> None:
    plan, measure = commands("x", timed(make), "Does it hold at my size?")
    assert plan == "plan clip-vit-b16 catlip-vit-b16 --device h100"
    assert measure == "measure clip-vit-b16 catlip-vit-b16"
    for command in (plan, measure):
        parse(shlex.split(command))


def test_commands_for_a_larger_size_are_on_the_data_of_the_comparison(make: Make) -> None:
    runs = renamed(timed(make), "data=my shards", "caption=txt")
    plan, measure = commands("x", runs, "Does it hold at my size?")
    assert plan == "plan clip-vit-b16 catlip-vit-b16 --device h100"
    assert measure == "measure clip-vit-b16 catlip-vit-b16 --data 'my shards' --caption txt --count-vocabulary"
    parse(shlex.split(measure))


def test_experiments_that_no_command_makes_have_none(make: Make) -> None:
    """A record that others wrote cannot name a command of its own."""
    runs = [replace(one, experiment=change(one.experiment, name=f"{one.experiment.name};x")) for one in timed(make)]
    assert commands("x", runs) == commands("x", runs, "Does it hold at my size?") == []


def test_explained_ratio_is_not_explained_again(make: Make) -> None:
    assert commands("1-explain", timed(make)) == [""]
    assert commands("1-explain", renamed(timed(make), "batch_size=64")) == []


def test_data_of_the_default_comparison_is_in_its_command(make: Make) -> None:
    runs = renamed(timed(make, 1), "data=my shards")
    assert commands("1-smoke", runs) == ["--data 'my shards'"]


def test_command_makes_the_settings_of_own_data_that_no_name_lists(make: Make) -> None:
    of_own_data = {"jpeg_decoding": "reduced", "synset_vocabulary": "my v.json"}
    runs = [replace(one, experiment=change(one.experiment, **of_own_data)) for one in renamed(timed(make, 3), "data=d")]
    command = parse(shlex.split(commands("1-measure", runs)[0]))
    assert isinstance(command, Measure)
    made, _ = command._experiments_and_scope(on_gpu=False)
    assert {(one.input, one.targets.synset_vocabulary) for one in made} == {
        (one.experiment.input, "my v.json") for one in runs
    }


def on_task(records: list[Record], task: str) -> list[Record]:
    """The records with all scores on one task."""
    return [
        replace(one, measured=replace(one.measured, scores=[replace(of, task=task) for of in one.measured.scores]))
        if isinstance(one.measured, Transfer)
        else one
        for one in records
    ]


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("1-smoke", lambda make: timed(make, 1)),
        ("1-default", lambda make: [*timed(make), make["failure"]()]),
        ("1-default", timed),
        ("1-measure", lambda make: timed(make)[::2]),
        ("1-measure", lambda make: timed(make, 3)),
        ("1-measure", timed),
        ("1-default", lambda make: scored(make, 1)),
        ("1-full", lambda make: scored(make, 3)),
    ],
)
def test_commands_keep_the_folder_of_the_records(make: Make, name: str, build: Callable[[Make], list[Record]]) -> None:
    records = build(make)

    def found(**options: str) -> list[str]:
        lines = commands_in(first_screen(name, records, **options))
        return [one for one in lines if not one.startswith("plan ")]

    own, other = found(), found(results="my runs")
    assert len(other) == len(own) > 0
    assert not any("--results" in line for line in own)
    for command in other:
        assert "'my runs'" in command
        parse(shlex.split(command))


def test_command_that_draws_another_comparison_keeps_the_folder(make: Make) -> None:
    text = page("1-measure", timed(make, 1), others={"older": "why"}, results="my runs")
    (command,) = [one for one in commands_in(text) if one.startswith("report ")]
    assert "'my runs'" in command


def test_next_training_lies_beside_the_records(make: Make) -> None:
    assert commands("1-train", scored(make, 2), results="mine")[0].endswith("--out mine/clip-tiny-2")


def test_comparison_that_ended_early_is_resumed_with_its_data(make: Make) -> None:
    runs = renamed(timed(make, 1), "data=my shards")
    assert commands("1-default", runs) == ["--resume --data 'my shards'"]
    assert commands("1-full", runs) == ["--full --resume --data 'my shards'"]


@pytest.mark.parametrize(
    ("task", "command", "is_root_unknown"),
    [("my classes", "--root FOLDER", True), ("rooms", "--task rooms", False), ("Twemoji group", "", False)],
)
def test_command_keeps_the_tasks_and_asks_for_a_folder_that_no_record_names(
    make: Make, task: str, command: str, *, is_root_unknown: bool
) -> None:
    text = answer("1-smoke", on_task(scored(make, 1), task))
    assert commands_in(text) == [command]
    parse(shlex.split(command))
    assert (f"FOLDER is where {task} lies: the records do not name it." in text) == is_root_unknown
