"""Options and the ending that verbs of the command line share."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Protocol, runtime_checkable

from tyro.conf import UseAppendAction, arg

from bench.console.console import FAILED_CASE, OK
from bench.console.progress import format_duration
from bench.console.tables import print_tables
from bench.data.captions.choice import parse_caption_choice
from bench.experiment.config import Experiment, fields_of_method
from bench.experiment.experiments import get_experiment
from bench.experiment.settings import with_settings
from bench.interfaces.method import check_experiment
from bench.interfaces.verb import Command
from bench.labels.vocabulary import SUBWORD, read_vocabulary
from bench.measure.tables import failure_table, sample_table
from bench.orchestration.comparison import Comparison
from bench.orchestration.pace import Pace
from bench.tables.tables import Table

Repeated = Annotated[tuple[str, ...], UseAppendAction]
Settings = Annotated[
    Repeated, arg(name="set", metavar="FIELD=VALUE", help="field of the experiments and its value; repeatable")
]
Tasks = Annotated[Repeated, arg(name="task", metavar="TASK", help="name of a transfer task; repeatable")]
Protocols = Annotated[
    Repeated, arg(name="protocol", metavar="PROTOCOL", help="name of an evaluation protocol; repeatable")
]
Data = Annotated[
    str | None,
    arg(
        metavar="SHARDS",
        help="folder, file or glob of captioned images (docs/data.md); default: the shipped pack",
    ),
]
CAPTION_HELP = (
    "captions that are read: fields of the samples, of which one with a text is drawn (txt:0.5;json.llava:0.5); "
    "default: found by its name"
)
Caption = Annotated[str | None, arg(metavar="FIELDS", help=CAPTION_HELP)]
Root = Annotated[Path | None, arg(metavar="FOLDER", help="folder with the data of tasks that are not in the pack")]
LENGTHS_HELP = "lengths of the pack's captions: their own (pack), of web captions (web), or of a file's captions"
CaptionLengths = Annotated[str | None, arg(metavar="pack|web|FILE", help=f"{LENGTHS_HELP}; default: the experiment's")]
VOCABULARY_HELP = "vocabulary of the labels: its .json file, CoreNet's .pkl file or the name of a shipped one"
VocabularyFile = Annotated[str | None, arg(metavar="FILE", help=VOCABULARY_HELP)]
Labels = Annotated[str | None, arg(metavar="FOLDER", help="folder of labels that `label` made; default: computed")]
DEFAULT_ROUNDS = "default 10 on a CPU, 5 on a GPU, more if the number of comparisons requires it"
Rounds = Annotated[int | None, arg(help=f"number of rounds of fresh processes; {DEFAULT_ROUNDS}")]
Measurements = Annotated[
    Repeated,
    arg(
        name="measurement",
        metavar="NAME",
        help="measurement of an extension, in place of throughput and memory; repeatable",
    ),
]
Results = Annotated[Path, arg(help="folder for records and towers")]
Json = Annotated[Path | None, arg(help="file to which the printed tables are also written, as one JSON object")]


MAX_MINUTES_HELP = (
    "minutes from the start after which no run should end: later ones are left to the same command with --resume, and "
    "the exit code is 75"
)
MaxMinutes = Annotated[float | None, arg(metavar="M", help=MAX_MINUTES_HELP)]
YES_HELP = "run although it is expected to take more than an hour on a CPU"
Yes = Annotated[bool, arg(help=YES_HELP)]
# Of fields whose option is not named as they are.
OPTION_NAMES = {"settings": "set", "tasks": "task", "protocols": "protocol", "measurements": "measurement"}
MAX_UNCONFIRMED_SECONDS = 3600.0  # of a run on a CPU that starts without --yes


@runtime_checkable
class EstimatedCommand(Command, Protocol):
    """A verb whose duration is known before it runs."""

    def expected_seconds(self, pace: Pace) -> float:
        """Return its expected seconds at a pace, start to end, without a run or its data; ValueError as `run`."""
        ...


def experiment_from(
    name: str,
    settings: Sequence[str],
    data: str | None = None,
    vocabulary: str | None = None,
    labels: str | None = None,
    caption: str | None = None,
) -> Experiment:
    """Return the named experiment with the settings, and with data, vocabulary, labels and captions where given.

    Raises ValueError.
    """
    parse_caption_choice(caption)
    options = {"data": data, "labels": labels, "caption": caption}
    if vocabulary is not None:
        options[f"{'subword' if read_vocabulary(vocabulary).rule == SUBWORD else 'synset'}_vocabulary"] = vocabulary
    given = [f"{field}={value}" for field, value in options.items() if value is not None]
    experiment = with_settings(get_experiment(name), [*settings, *given])
    check_experiment(experiment)
    return experiment


def experiments_from(names: Iterable[str], settings: Sequence[str], *options: str | None) -> list[Experiment]:
    """Return experiments as `experiment_from`, each name once; a field that some methods declare is set for those."""
    unique = list(dict.fromkeys(names))
    own = {name: fields_of_method(get_experiment(name).method).keys() for name in unique}
    declared = {field for fields in own.values() for field in fields}

    def applies(setting: str, name: str) -> bool:
        field = setting.partition("=")[0].rpartition(".")[2]
        return field not in declared or field in own[name]

    return [experiment_from(name, [one for one in settings if applies(one, name)], *options) for name in unique]


def add_caption_settings(settings: Sequence[str], caption_lengths: str | None, caption: str | None = None) -> list[str]:
    """Return the settings and those of `--caption-lengths` and `--caption`, if they are given."""
    parse_caption_choice(caption)
    given = {"caption_lengths": caption_lengths, "caption": caption}
    return [*settings, *(f"{name}={value}" for name, value in given.items() if value is not None)]


def option_arguments(command: Command, *left_out: str) -> list[str]:
    """Return the words of a command line that give the options their values, but for defaults and those left out."""
    words = list[str]()
    for field in dataclasses.fields(command):  # type: ignore[arg-type]
        value, name = getattr(command, field.name), OPTION_NAMES.get(field.name, field.name.replace("_", "-"))
        if field.name in left_out or value == field.default:
            continue
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        else:
            several = value if isinstance(value, tuple) else [f"{value:g}" if isinstance(value, float) else value]
            words += [word for one in several for word in (f"--{name}", str(one))]
    return words


def require_confirmed(comparison: Comparison, seconds: float, remedy: str, *, is_confirmed: bool) -> None:
    """Raise ValueError for runs that would take more than an hour on a CPU, unless a person has confirmed it.

    `remedy` names the options that make them shorter.
    """
    if seconds > MAX_UNCONFIRMED_SECONDS and not comparison.on_gpu and not is_confirmed:
        raise ValueError(f"this would take about {format_duration(seconds)} on this CPU: add --yes, or {remedy}")


def set_deadline(comparison: Comparison, max_minutes: float | None, start: float) -> None:
    """Let a comparison leave the runs that would end so many minutes after a start, of time.monotonic()."""
    if max_minutes is not None:
        comparison.runner.deadline, comparison.runner.skips_late_jobs = start + 60 * max_minutes, True


def print_results(comparison: Comparison, tables: Sequence[Table] = (), json_file: Path | None = None) -> int:
    """Show tables, the counts of skipped samples and the recorded failures; return the exit code."""
    records = comparison.records()
    print_tables([*tables, sample_table(records), failure_table(records)], json_file)
    return FAILED_CASE if comparison.runner.failures else OK
