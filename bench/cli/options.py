"""Options and the ending that verbs of the command line share. Little is imported here: every command line reads it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import UseAppendAction, arg

from bench.console.console import FAILED_CASE, OK

if TYPE_CHECKING:
    from bench.experiment.config import Experiment
    from bench.orchestration.comparison import Comparison
    from bench.tables.tables import Table

Repeated = Annotated[tuple[str, ...], UseAppendAction]
_FOLDER = arg(metavar="FOLDER")
Folder = Annotated[Path, _FOLDER]
OptionalFolder = Annotated[Path | None, _FOLDER]
ExperimentName = Annotated[str, arg(metavar="EXPERIMENT")]
ExperimentNames = Annotated[tuple[str, ...], arg(metavar="EXPERIMENT ...")]
Settings = Annotated[
    Repeated,
    arg(
        name="set",
        metavar="FIELD=VALUE",
        help="give a field of the experiments another value, such as batch_size=64 (see `list --fields`); repeatable",
    ),
]
SettingsFile = Annotated[
    Path | None,
    arg(
        name="tuned-settings",
        metavar="FILE.toml",
        help="file with settings of experiments, as `tune` writes it; --set comes after them",
    ),
]
Tasks = Annotated[
    Repeated,
    arg(
        name="task",
        metavar="TASK",
        help="transfer task to score on, such as 'Twemoji group' (docs/transfer.md lists them); repeatable; "
        "default: with --score-on the classes in its folder, else four tasks of the shipped pack",
    ),
]
Protocols = Annotated[
    Repeated,
    arg(
        name="protocol",
        metavar="PROTOCOL",
        help="way to score a tower on a task, such as few-shot (docs/transfer.md lists them); repeatable; "
        "default: linear-probe, k-nn and retrieval, or that of the task",
    ),
]
ScoreOn = Annotated[
    Path | None,
    arg(
        metavar="FOLDER",
        help="folder to score on: your own labelled images, such as a subfolder for each class, or the files of --task",
    ),
]
CaptionFields = Annotated[
    str | None,
    arg(
        metavar="FIELD[:PROBABILITY];...",
        help="column or field that holds the captions; of several, such as 'txt:0.5;json.llava:0.5', one is drawn "
        "with the given probability; default: found by its name",
    ),
]
ImageColumn = Annotated[
    str | None,
    arg(
        metavar="COLUMN|SUFFIX",
        help="column of a table that holds the images or their paths; in tars and folders the suffix of images, "
        "such as jpg; default: found by its name or content",
    ),
]
VocabularyFile = Annotated[
    str | None,
    arg(
        metavar="FILE|NAME",
        help="labels that captions are turned into: a .json file that `label` wrote, CoreNet's .pkl file, or "
        "shipped-synsets or shipped-subwords, of the pack's captions; default: the experiment's",
    ),
]
Rounds = Annotated[
    int | None,
    arg(
        help="number of rounds; each runs every experiment once, in a fresh process; default: 10 on a CPU, 6 on a GPU"
    ),
]
Measurements = Annotated[
    Repeated,
    arg(
        name="measure-instead",
        metavar="MEASUREMENT",
        help="measurement of an --extension, taken in place of throughput and memory; repeatable",
    ),
]
Launch = Annotated[
    str,
    arg(
        metavar="TORCHRUN-COMMAND",
        help='command that runs `-m MODULE` on several GPUs, as "torchrun --nproc-per-node 8"; default: one process',
    ),
]
Results = Annotated[
    Path,
    arg(
        metavar="FOLDER",
        help="folder for records and towers; --resume and names of towers refer to those in it",
    ),
]
Json = Annotated[
    Path | None,
    arg(
        metavar="FILE",
        help="file to which the printed tables are also written, as one JSON object; -: print it instead of them",
    ),
]


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Options of verbs that name training data."""

    data: Annotated[
        str | None,
        arg(
            metavar="PATH",
            help="training data: folder, file or glob of captioned images (docs/data.md); default: the shipped pack",
        ),
    ] = None
    caption_fields: CaptionFields = None
    image_column: ImageColumn = None

    def format_data_settings(self) -> list[str]:
        """Return the given options as FIELD=VALUE settings of an experiment."""
        fields = {
            "data": self.data,
            "caption_fields": self.caption_fields,
            "image_column": self.image_column,
        }
        return [f"{field}={value}" for field, value in fields.items() if value is not None]


@dataclass(frozen=True, kw_only=True)
class LabelOptions(DataOptions):
    """Options of verbs that name training data and the vocabulary of their labels."""

    label_vocabulary: VocabularyFile = None
    vocabulary_from_captions: Annotated[
        bool,
        arg(
            help="first count the labels of the captions of --data, or else of the pack, in place of --label-vocabulary"
        ),
    ] = False

    def format_data_settings(self) -> list[str]:
        """Return the given options as FIELD=VALUE settings; ValueError if they exclude each other."""
        from bench.labels.vocabulary import SUBWORD, read_vocabulary

        settings = super().format_data_settings()
        if self.vocabulary_from_captions and self.label_vocabulary:
            raise ValueError(
                "--vocabulary-from-captions counts what --label-vocabulary names: leave out one of them"
            )
        if self.label_vocabulary is not None:
            is_subword = read_vocabulary(self.label_vocabulary).rule == SUBWORD
            field = "subword_vocabulary" if is_subword else "synset_vocabulary"
            settings.append(f"{field}={self.label_vocabulary}")
        return settings


def find_experiment_with_settings(name: str, settings: Sequence[str]) -> "Experiment":
    """Return the named experiment with FIELD=VALUE settings; ValueError for one that cannot be run."""
    from bench.experiment.experiments import get_experiment
    from bench.experiment.settings import renamed_with_settings
    from bench.interfaces.method import require_method_accepts

    experiment = renamed_with_settings(get_experiment(name), settings)
    require_method_accepts(experiment)
    return experiment


def find_experiments_with_settings(
    names: Sequence[str], settings: Sequence[str], settings_file: Path | None = None
) -> "list[Experiment]":
    """Return the named experiments with settings, each once; a method's own field is set only where it exists.

    The file has settings of one of them or more, which come first.
    """
    from bench.experiment.config import get_declared_method_fields
    from bench.experiment.experiments import get_experiment
    from bench.experiment.tuned_settings import read_tuned_settings

    tuned = {} if settings_file is None else read_tuned_settings(settings_file)
    if settings_file is not None and not tuned.keys() & {*names}:
        raise ValueError(f"{settings_file} has settings of {', '.join(tuned)}, not of {names[0]}")
    declared_fields = {
        name: get_declared_method_fields(get_experiment(name).method).keys()
        for name in dict.fromkeys(names)
    }
    all_declared = set[str]().union(*declared_fields.values())
    experiments = list["Experiment"]()
    for name, fields in declared_fields.items():
        others = all_declared - fields
        accepted = [setting for setting in settings if setting.partition("=")[0] not in others]
        if name in tuned:
            accepted = [*tuned[name].settings, *accepted]
        experiments.append(find_experiment_with_settings(name, accepted))
    return experiments


def print_results_and_get_exit_code(
    comparison: "Comparison", tables: "Sequence[Table]" = (), json_file: Path | None = None
) -> int:
    """Print tables, skipped samples and recorded failures, the tables also to a JSON file; return the exit code."""
    from bench.console.tables import print_tables
    from bench.measure.tables import failed_run_table, sample_flaw_table

    records = comparison.records()
    print_tables([*tables, sample_flaw_table(records), failed_run_table(records)], json_file)
    return FAILED_CASE if comparison.runner.failures else OK
