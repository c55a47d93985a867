"""The verb `train`: a resumable pre-training run, in processes of its own or in those that torchrun started."""

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import Positional, arg
from tyro.constructors import PrimitiveConstructorSpec

from bench.cli.options import (
    Caption,
    Data,
    Json,
    Labels,
    Root,
    Settings,
    Tasks,
    VocabularyFile,
    experiment_from,
    option_arguments,
    print_results,
)
from bench.cli.own_vocabulary import (
    count_own_vocabulary,
    fields_to_count,
    require_no_other_vocabulary,
    save_vocabulary,
)
from bench.cli.transfer import choose_tasks_root_and_protocols, require_openable_tasks
from bench.console.command_line import parent_command_line, program_command_line
from bench.console.console import INTERRUPTED, Stopped, log
from bench.console.options import MAX_ECHOED_CHARACTERS, MINUTES_RANGE, require_range
from bench.data.samples import inputs_digest
from bench.environment.circumstances import current_commit
from bench.environment.files import safe_file_name
from bench.environment.rank_info import restart_count, torchrun_env
from bench.experiment.config import Experiment, change, differing_fields, format_differences
from bench.experiment.fields import PACK_DATA
from bench.orchestration.budgets import set_images
from bench.orchestration.preflight import begin, check, prepare_data, require_runnable, resume
from bench.orchestration.ranks import RankRunner
from bench.orchestration.scope import Scope
from bench.records.record import Training, read_records
from bench.train.checkpoints import (
    CheckpointConfig,
    exclusive_lock,
    latest_valid,
    list_checkpoints,
    log_differences,
    require_same_experiment,
)
from bench.transfer.terminal_tables import transfer_tables

CHECKPOINT_MINUTES = 15.0
VOCABULARY = "vocabulary.json"  # in OUT
MOST_IMAGES = 10**12  # of an experiment
UNITS = {"": 1, "k": 10**3, "M": 10**6, "B": 10**9}
IMAGES_HELP = "number of training images, as 80000, 80k or 12.8M; default: the experiment's"
Images = Annotated[str | None, arg(metavar="N", help=IMAGES_HELP)]
Resume = Annotated[
    Literal["no", "yes", "auto"],
    PrimitiveConstructorSpec(
        nargs=(0, 1),
        metavar="[auto]",
        instance_from_str=lambda words: words[0] if words else "yes",
        is_instance=lambda value: value in ("no", "yes", "auto"),
        str_from_instance=lambda value: [value],
        choices=("auto",),
    ),
]
REQUEUE_FILE = (
    "requeue"  # in OUT, after a signal to end or shortly before the end of the job's time
)


@dataclass(frozen=True, slots=True)
class Train:
    """Pre-train a tower, with checkpoints from which --resume continues, and score it on transfer tasks."""

    name: Positional[str]  # name of the experiment
    images: Images = None
    data: Data = None
    caption: Caption = None
    vocabulary: VocabularyFile = None
    labels: Labels = None
    count_vocabulary: bool = (
        False  # count the vocabulary from the captions first, into OUT/vocabulary.json
    )
    # smallest count of a label in the counted vocabulary; default 1 for subwords, and for synsets 500, or a thousandth
    # of the captions if there are fewer than 500,000
    min_count: int | None = None
    out: Path | None = None  # folder for checkpoints, records and tower; default results/train-NAME
    resume: Resume = (
        "no"  # resume from the newest checkpoint in OUT; auto: or start, if there is none
    )
    checkpoint_minutes: float = (
        CHECKPOINT_MINUTES  # minutes between checkpoints; the newest two are kept
    )
    tensorboard: bool = False  # also write event files to OUT/tensorboard
    score: bool = True  # score the tower on transfer tasks after the training
    tasks: Tasks = ()
    root: Root = None
    settings: Settings = ()
    json: Json = None

    purpose: ClassVar[str] = "train"

    @property
    def resume_hint(self) -> str:
        """The resume command, or the absence of a checkpoint."""
        if not list_checkpoints(self._checkpoints):
            return "no checkpoint was saved; start the same command again"
        return f"resume with: {self._command}"

    def run(self) -> int:
        """Train, then score the tower and its random-init baseline."""
        experiment = self._experiment()
        tasks, root = self._tasks_and_root()
        if root:
            require_openable_tasks(self._out, root, tasks)
        require_range("checkpoint-minutes", self.checkpoint_minutes, 1e-9, MINUTES_RANGE[1])
        if self.tensorboard and find_spec("tensorboard") is None:
            raise ValueError(
                "--tensorboard needs a package: python -m pip install -e '.[tensorboard]'"
            )
        with self._mark_for_requeue():
            # Which reads whole checkpoints.
            resume_from, name = self._checkpoint_and_comparison(experiment)
            with exclusive_lock(self._out):
                (self._out / REQUEUE_FILE).unlink(missing_ok=True)
                if self.count_vocabulary and not resume_from:
                    self._write_counted_vocabulary(experiment)
                return self._run(experiment, tasks, root, resume_from, name)

    def _tasks_and_root(self) -> tuple[tuple[str, ...], str]:
        """Return the tasks and the folder of those on disk; ValueError if one cannot be scored."""
        if (self.tasks or self.root) and not self.score:
            raise ValueError(
                "--task and --root name what is scored, and --no-score scores nothing: leave it or them out"
            )
        if not self.score:
            return (), ""
        tasks, root, _ = choose_tasks_root_and_protocols(self.tasks, self.root)
        return tuple(tasks), root

    @contextmanager
    def _mark_for_requeue(self) -> Iterator[None]:
        """Leave a file in OUT if the block ends because it was told to, or because the job's time is nearly over."""
        try:
            yield
        except Stopped as stopped:
            if stopped.code != INTERRUPTED:
                self._out.mkdir(parents=True, exist_ok=True)
                (self._out / REQUEUE_FILE).touch()
            raise

    def _write_counted_vocabulary(self, experiment: Experiment) -> None:
        """Count the captions' labels into OUT/vocabulary.json and print their tables.

        The count may take hours, so that the training, with its default vocabulary, is checked before.
        """
        unlabelled = change(self._named_experiment(), caption_lengths=PACK_DATA)
        require_runnable(self._out.resolve(), [unlabelled])
        prepare_data(self._out.resolve(), [unlabelled])
        (field,), inputs = fields_to_count([experiment]), experiment.input
        counted = count_own_vocabulary(inputs.data, field, self.min_count, inputs.caption)
        save_vocabulary(counted, self._out / VOCABULARY)

    def _run(
        self,
        experiment: Experiment,
        tasks: tuple[str, ...],
        root: str,
        resume_from: str,
        name: str | None,
    ) -> int:
        """Train and score in a folder that this process has locked."""
        scope = training_scope(experiment, tasks, root)
        check(self._out, [experiment], trained=True, tasks=tasks)
        if name is None:
            comparison = begin(self._out, "train", [experiment])
        else:
            comparison = resume(self._out, "train", [experiment], name=name)
        if torchrun_env().world_size > 1:
            comparison.runner = RankRunner()
        events = str((self._out / "tensorboard").resolve()) if self.tensorboard else ""
        folder = str(self._checkpoints.resolve())
        checkpoint_config = CheckpointConfig(
            folder=folder,
            interval_minutes=self.checkpoint_minutes,
            resume_from=resume_from,
            tensorboard=events,
        )
        comparison.train(scope, checkpoint_config=checkpoint_config)
        if tasks and experiment.image.embedding_channels is not None:
            log("not scored: the tasks hold images, and this tower reads embeddings")
        elif tasks and not comparison.runner.failures:
            comparison.score(scope)
        code = print_results(comparison, transfer_tables(comparison.records()), self.json)
        for path in sorted(comparison.results.glob(f"{comparison.name}.tower.*.safetensors")):
            log(f"tower: {path}")
        if comparison.runner.failures:
            log(self.resume_hint)
        return code

    @property
    def _out(self) -> Path:
        return (
            self.out or Path("results") / f"train-{safe_file_name(self._named_experiment().name)}"
        )

    @property
    def _checkpoints(self) -> Path:
        return self._out / "checkpoints"

    @property
    def _command(self) -> str:
        """The given command line with --resume."""
        words = [
            *program_command_line(parent_command_line()),
            "train",
            self.name,
            *option_arguments(self, "name", "resume"),
        ]
        return shlex.join([*words, "--resume", *(["auto"] if self.resume == "auto" else [])])

    def _named_experiment(self) -> Experiment:
        return experiment_from(
            self.name, self.settings, self.data, self.vocabulary, self.labels, self.caption
        )

    def _experiment(self) -> Experiment:
        if any(setting.startswith("caption_lengths=") for setting in self.settings):
            raise ValueError(
                "train reads captions as they are: leave out caption_lengths, which measure and plan take"
            )
        experiment = self._named_experiment()
        if self.min_count is not None and not self.count_vocabulary:
            raise ValueError(
                "--min-count is for --count-vocabulary: add it, or leave out --min-count"
            )
        require_range("min-count", self.min_count, 1, 1e12)
        if self.count_vocabulary:
            require_no_other_vocabulary(self.vocabulary, self.labels)
            (field,) = fields_to_count([experiment])
            experiment = change(experiment, **{field: str(self._out / VOCABULARY)})
        experiment = change(experiment, caption_lengths=PACK_DATA)
        if self.images is None:
            return experiment
        images, batch = (
            parse_count(self.images),
            experiment.training.batch_size * torchrun_env().world_size,
        )
        if images < 2 * batch:
            raise ValueError(
                f"--images must be at least two batches ({2 * batch}), got {self.images}"
            )
        return set_images(experiment, images)

    def _checkpoint_and_comparison(self, experiment: Experiment) -> tuple[str, str | None]:
        """Return the checkpoint to resume from, or "", and its comparison; ValueError if OUT does not allow it."""
        with exclusive_lock(self._checkpoints) if self._checkpoints.is_dir() else nullcontext():
            checkpoints = list_checkpoints(self._checkpoints)
            if not checkpoints and (restart_count() or self.resume != "yes"):
                return "", None  # the first start, or a process failed before the first checkpoint
            path, saved = latest_valid(self._checkpoints)
        if self.resume == "no" and not restart_count():
            if saved.experiment != experiment:
                held = f"{saved.experiment.name}, seed {saved.experiment.seed}"
                differ = format_differences(differing_fields([saved.experiment, experiment]))
                raise ValueError(
                    f"{self._out} holds a training of {held} ({differ}): name another folder with --out"
                )
            remedy = f"resume with: {self._command}, or name another folder with --out"
            raise ValueError(f"{self._out} already holds a checkpoint ({path.name}); {remedy}")
        processes = torchrun_env().world_size
        records = read_records(self._out, saved.comparison) if saved.processes != processes else []
        if any(isinstance(record.measured, Training) for record in records):
            text = f"the training in {self._out} was finished by {saved.processes} processes, this is {processes}"
            raise ValueError(
                f"{text}: start the command with as many, or name another folder with --out"
            )
        require_same_experiment(saved, experiment, processes, inputs_digest(experiment))
        log_differences(path, saved, processes, current_commit())
        return str(path.resolve()), saved.comparison


def training_scope(experiment: Experiment, tasks: tuple[str, ...], root: str) -> Scope:
    """Return the scope of one training whose tower is scored on tasks."""
    budgets = {"half_way": False, "equal_seconds": False}
    return Scope("train", 0, seeds=(experiment.seed,), tasks=tasks, root=root, curves=(), **budgets)


def parse_count(text: str) -> int:
    """Parse a number of images: 80000, 80k, 12.8M or 1.28B."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([kMB]?)", text)
    count = float(match[1]) * UNITS[match[2]] if match else 0.0
    if not 1 <= count <= MOST_IMAGES:
        raise ValueError(
            f"--images must be 1 to {MOST_IMAGES:,}, as 80000, 80k or 12.8M, got {text[:MAX_ECHOED_CHARACTERS]!r}"
        )
    return round(count)
