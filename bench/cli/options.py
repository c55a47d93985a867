"""Options and the ending that verbs of the command line share. Little is imported here: every command line reads it."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import UseAppendAction, arg

from bench.console.console import FAILED_CASE, OK
from bench.interfaces.verb import Command

if TYPE_CHECKING:
    from bench.experiment.config import Experiment
    from bench.orchestration.comparison import Comparison
    from bench.tables.tables import Table

Repeated = Annotated[tuple[str, ...], UseAppendAction]
Settings = Annotated[
    Repeated,
    arg(
        name="set", metavar="FIELD=VALUE", help="field of the experiments and its value; repeatable"
    ),
]
Tasks = Annotated[
    Repeated, arg(name="task", metavar="TASK", help="name of a transfer task; repeatable")
]
Protocols = Annotated[
    Repeated,
    arg(name="protocol", metavar="PROTOCOL", help="name of an evaluation protocol; repeatable"),
]
DATA_HELP = "folder, file or glob of captioned images (docs/data.md); default: the shipped pack"
Data = Annotated[str | None, arg(metavar="SHARDS", help=DATA_HELP)]
CAPTION_HELP = (
    "fields of the samples that hold captions, of which one with a text is drawn (txt:0.5;json.llava:0.5); default: "
    "found by its name"
)
Caption = Annotated[str | None, arg(metavar="FIELDS", help=CAPTION_HELP)]
Root = Annotated[
    Path | None,
    arg(metavar="FOLDER", help="folder with the data of tasks that are not in the pack"),
]
LENGTHS_HELP = (
    "lengths of the pack's captions: their own (pack) or of web captions; default: the experiment's"
)
CaptionLengths = Annotated[str | None, arg(metavar="pack|web", help=LENGTHS_HELP)]
VOCABULARY_HELP = (
    "vocabulary of the labels: its .json file, CoreNet's .pkl file or the name of a shipped one"
)
VocabularyFile = Annotated[str | None, arg(metavar="FILE", help=VOCABULARY_HELP)]
Labels = Annotated[
    str | None, arg(metavar="FOLDER", help="folder of labels that `label` made; default: computed")
]
ROUNDS_HELP = "number of rounds of fresh processes; default: 10 on a CPU, 5 on a GPU, more for many comparisons"
Rounds = Annotated[int | None, arg(help=ROUNDS_HELP)]
MEASUREMENTS_HELP = (
    "name of an extension's measurement, in place of throughput and memory; repeatable"
)
Measurements = Annotated[Repeated, arg(name="measurement", metavar="NAME", help=MEASUREMENTS_HELP)]
LAUNCH_HELP = (
    'words that start a run on all ranks, such as "torchrun --nproc-per-node 8" (docs/distributed.md); default: one '
    "process"
)
Launch = Annotated[str, arg(metavar="WORDS", help=LAUNCH_HELP)]
Results = Annotated[Path, arg(help="folder for records and towers")]
Json = Annotated[
    Path | None, arg(help="file to which the printed tables are also written, as one JSON object")
]
MAX_MINUTES_HELP = (
    "minutes from the start after which no run should end: later ones are left to the same command with --resume, and "
    "the exit code is 75"
)
MaxMinutes = Annotated[float | None, arg(metavar="M", help=MAX_MINUTES_HELP)]
# Options that are not named as their fields.
OPTION_NAMES = {
    "settings": "set",
    "tasks": "task",
    "protocols": "protocol",
    "measurements": "measurement",
}


def experiment_from(
    name: str,
    settings: Sequence[str],
    data: str | None = None,
    vocabulary: str | None = None,
    labels: str | None = None,
    caption: str | None = None,
) -> "Experiment":
    """Return the named experiment with the settings, and with data, vocabulary, labels and captions where given.

    Raises ValueError.
    """
    from bench.data.captions.choice import parse_caption_choice
    from bench.experiment.experiments import get_experiment
    from bench.experiment.settings import with_settings
    from bench.interfaces.method import check_experiment
    from bench.labels.vocabulary import SUBWORD, read_vocabulary

    parse_caption_choice(caption)
    options = {"data": data, "labels": labels, "caption": caption}
    if vocabulary is not None:
        is_subword = read_vocabulary(vocabulary).rule == SUBWORD
        options["subword_vocabulary" if is_subword else "synset_vocabulary"] = vocabulary
    given = [f"{field}={value}" for field, value in options.items() if value is not None]
    experiment = with_settings(get_experiment(name), [*settings, *given])
    check_experiment(experiment)
    return experiment


def experiments_from(
    names: Iterable[str], settings: Sequence[str], *options: str | None
) -> "list[Experiment]":
    """Return experiments as `experiment_from`, each name once; a field that some methods declare is set for those."""
    from bench.experiment.config import fields_of_method
    from bench.experiment.experiments import get_experiment

    fields_by_name = {
        name: fields_of_method(get_experiment(name).method).keys() for name in dict.fromkeys(names)
    }
    declared = {field for fields in fields_by_name.values() for field in fields}
    experiments = list["Experiment"]()
    for name, fields in fields_by_name.items():
        applicable = list[str]()
        for setting in settings:
            field = setting.partition("=")[0].rpartition(".")[2]
            if field not in declared or field in fields:
                applicable.append(setting)
        experiments.append(experiment_from(name, applicable, *options))
    return experiments


def add_caption_settings(
    settings: Sequence[str], caption_lengths: str | None, caption: str | None = None
) -> list[str]:
    """Return the settings and those of `--caption-lengths` and `--caption`, if they are given."""
    from bench.data.captions.choice import parse_caption_choice

    parse_caption_choice(caption)
    given = {"caption_lengths": caption_lengths, "caption": caption}
    return [*settings, *(f"{name}={value}" for name, value in given.items() if value is not None)]


def option_arguments(command: Command, *left_out: str) -> list[str]:
    """Return the words of a command line that give the options their values, but for defaults and those left out."""
    words = list[str]()
    for field in dataclasses.fields(command):  # type: ignore[arg-type]
        value = getattr(command, field.name)
        name = OPTION_NAMES.get(field.name, field.name.replace("_", "-"))
        if field.name in left_out or value == field.default:
            continue
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
            continue
        for item in value if isinstance(value, tuple) else [value]:
            words += [f"--{name}", f"{item:g}" if isinstance(item, float) else str(item)]
    return words


def set_deadline(comparison: "Comparison", max_minutes: float | None, start: float) -> None:
    """Let a comparison leave the runs that would end so many minutes after a start, of time.monotonic()."""
    if max_minutes is not None:
        comparison.runner.deadline = start + 60 * max_minutes


def print_results(
    comparison: "Comparison", tables: "Sequence[Table]" = (), json_file: Path | None = None
) -> int:
    """Show tables, the counts of skipped samples and the recorded failures; return the exit code."""
    from bench.console.tables import print_tables
    from bench.measure.tables import failure_table, sample_table

    records = comparison.records()
    print_tables([*tables, sample_table(records), failure_table(records)], json_file)
    return FAILED_CASE if comparison.runner.failures else OK
