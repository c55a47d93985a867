"""The verb `train`: a resumable pre-training run, in processes of its own or in those that torchrun started."""

import re
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from bench.cli.options import (
    ExperimentName,
    Json,
    LabelOptions,
    OptionalFolder,
    ScoreOn,
    Settings,
    SettingsFile,
    Tasks,
    find_experiments_with_settings,
    print_results_and_get_exit_code,
)
from bench.cli.own_vocabulary import (
    count_data_vocabulary,
    vocabulary_fields_of,
    write_and_log_vocabulary,
)
from bench.cli.transfer import choose_tasks_and_protocols, require_openable_disk_tasks_and_towers
from bench.console.console import INTERRUPTED, Stopped, log
from bench.console.options import MAX_ECHOED_CHARACTERS, MINUTES_RANGE, require_option_in_range
from bench.data.samples import training_files_digest
from bench.environment.circumstances import describe_current_commit
from bench.environment.files import make_folders_unless_in_root, to_safe_file_name
from bench.environment.torchrun_ranks import read_torchrun_ranks, read_torchrun_restart_count
from bench.experiment.config import Experiment, change
from bench.experiment.fields import OWN_LENGTHS
from bench.orchestration.budgets import with_training_images_and_short_warmup
from bench.orchestration.preflight import (
    begin_comparison,
    prepare_data_and_log_notes,
    require_runnable_and_prepare_data,
    require_runnable_experiments,
)
from bench.orchestration.ranks import Rank0Runner
from bench.orchestration.scope import ComparisonScope
from bench.train.checkpoints import (
    CheckpointConfig,
    CheckpointMetadata,
    find_latest_valid_checkpoint,
    list_checkpoints_newest_first,
    lock_training_folder,
    log_resume_differences,
    require_resumable,
)
from bench.transfer.terminal_tables import make_transfer_tables

VOCABULARY = "vocabulary.json"  # in OUT
REQUEUE_FILE = "requeue"  # in OUT, after a signal to end or the end of the job's time
MOST_IMAGES = 10**12  # of an experiment
UNITS = {"": 1, "k": 10**3, "M": 10**6, "B": 10**9}
ImagesSeen = Annotated[
    str | None,
    arg(
        metavar="N",
        help="length of the training: number of images seen, repetitions included (80000, 80k, 12.8M or 1.28B); "
        "default: the experiment's",
    ),
]


@dataclass(frozen=True, kw_only=True)
class TrainAndScoreTower(LabelOptions):
    """Pre-train a tower, with checkpoints from which --resume continues, and score it on transfer tasks.

    Five seeds of a method on your data, scored on your task, are five commands, with N from 0 to 4:
    `train NAME --data PATH --vocabulary-from-captions --score-on FOLDER --set seed=N --out results/NAME-N`.
    """

    name: Positional[ExperimentName]  # name of the experiment (see `list`)
    images_seen: ImagesSeen = None
    # folder for checkpoints, records and the trained tower; default: results/train-EXPERIMENT
    out: OptionalFolder = None
    # continue from the newest checkpoint in OUT, or begin if there is none; default: begin, and refuse a folder with a
    # checkpoint
    resume: bool = False
    checkpoint_minutes: float = 15.0  # minutes between two checkpoints; the newest two are kept
    score: bool = True  # score the tower on transfer tasks after the training
    tasks: Tasks = ()
    score_on: ScoreOn = None
    settings_file: SettingsFile = None
    settings: Settings = ()
    json: Json = None

    def run(self) -> int:
        """Train, then score the tower and its random-init baseline."""
        settings = [*self.settings, *self.format_data_settings()]
        (named,) = find_experiments_with_settings([self.name], settings, self.settings_file)
        out = self.out or Path("results") / f"train-{to_safe_file_name(named.name)}"
        experiment = self._with_training_images_and_vocabulary(named, out)
        tasks: list[str] = []
        root = ""
        if self.score:
            tasks, root, _ = choose_tasks_and_protocols(self.tasks, self.score_on)
        if root:
            require_openable_disk_tasks_and_towers(out, root, tasks)
        require_option_in_range(
            "checkpoint-minutes", self.checkpoint_minutes, 1e-9, MINUTES_RANGE[1]
        )
        scope = ComparisonScope(
            "train",
            rounds=0,
            seeds=(experiment.seed,),
            half_way=False,
            equal_seconds=False,
            tasks=tuple(tasks),
            root=root,
            curves=(),
        )
        try:
            checkpoint = self._find_resumable_checkpoint(experiment, out)
            with lock_training_folder(out):
                (out / REQUEUE_FILE).unlink(missing_ok=True)
                if self.vocabulary_from_captions and checkpoint is None:
                    count_and_write_training_vocabulary(named, out)
                return self._train_and_score(experiment, out, scope, checkpoint)
        except Stopped as stopped:
            if stopped.code != INTERRUPTED:
                make_folders_unless_in_root(out)
                (out / REQUEUE_FILE).touch()
            raise

    def _with_training_images_and_vocabulary(self, named: Experiment, out: Path) -> Experiment:
        """Return the experiment with the images and the vocabulary of its training."""
        if any(setting.startswith("pack_caption_lengths=") for setting in self.settings):
            raise ValueError(
                "train reads captions as they are: leave out pack_caption_lengths, which measure and plan take"
            )
        experiment = change(named, pack_caption_lengths=OWN_LENGTHS)
        if self.vocabulary_from_captions:
            (field,) = vocabulary_fields_of([experiment])
            experiment = change(experiment, **{field: str(out / VOCABULARY)})
        if self.images_seen is None:
            return experiment
        images = parse_image_count(self.images_seen)
        two_batches = 2 * experiment.training.batch_size * read_torchrun_ranks().world_size
        if images < two_batches:
            raise ValueError(
                f"--images-seen must be at least two batches ({two_batches}), got {self.images_seen}"
            )
        return with_training_images_and_short_warmup(experiment, images)

    def _find_resumable_checkpoint(
        self, experiment: Experiment, out: Path
    ) -> tuple[Path, CheckpointMetadata] | None:
        """Return the newest checkpoint in OUT with its metadata, or None.

        Raises ValueError if there is one without --resume, or if it is of another training.
        """
        folder = out / "checkpoints"
        with lock_training_folder(folder) if folder.is_dir() else nullcontext():
            if not list_checkpoints_newest_first(folder):
                return None  # the first start, or a process failed before the first checkpoint
            path, saved = find_latest_valid_checkpoint(folder)
        if not self.resume and not read_torchrun_restart_count():
            raise ValueError(
                f"{out} already holds a checkpoint ({path.name}): add --resume, or name another folder with --out"
            )
        processes = read_torchrun_ranks().world_size
        digest = training_files_digest(experiment.input, experiment.targets)
        require_resumable(saved, experiment, processes, digest)
        log_resume_differences(path, saved, processes, describe_current_commit())
        return path, saved

    def _train_and_score(
        self,
        experiment: Experiment,
        out: Path,
        scope: ComparisonScope,
        checkpoint: tuple[Path, CheckpointMetadata] | None,
    ) -> int:
        """Train and score in a folder that this process has locked, print the tables, and return the exit code."""
        require_runnable_and_prepare_data(out, [experiment], will_train=True, tasks=scope.tasks)
        resume_from = ""
        name = None
        if checkpoint is not None:
            path, saved = checkpoint
            resume_from = str(path.resolve())
            name = saved.comparison
        comparison = begin_comparison(out, "train", [experiment], name=name)
        if read_torchrun_ranks().world_size > 1:
            comparison.runner = Rank0Runner()
        checkpoint_config = CheckpointConfig(
            folder=str((out / "checkpoints").resolve()),
            interval_minutes=self.checkpoint_minutes,
            resume_from=resume_from,
        )
        comparison.train_towers(scope, checkpoint_config=checkpoint_config)
        if scope.tasks and experiment.image.input_embedding_grid_channels is not None:
            log("not scored: the tasks hold images, and this tower reads embeddings")
        elif scope.tasks and not comparison.runner.failures:
            comparison.score_trained_towers(scope)
        code = print_results_and_get_exit_code(
            comparison, make_transfer_tables(comparison.records()), self.json
        )
        for path in sorted(comparison.results.glob(f"{comparison.name}.tower.*.safetensors")):
            log(f"tower: {path}")
        return code


def count_and_write_training_vocabulary(experiment: Experiment, out: Path) -> None:
    """Count the labels of an experiment's captions into OUT/vocabulary.json, and log the path.

    The count may take hours, so that the training is checked before, with its default vocabulary.
    """
    unlabelled = change(experiment, pack_caption_lengths=OWN_LENGTHS)
    require_runnable_experiments(out.resolve(), [unlabelled])
    prepare_data_and_log_notes(out.resolve(), [unlabelled])
    (field,) = vocabulary_fields_of([experiment])
    write_and_log_vocabulary(count_data_vocabulary(experiment.input, field), out / VOCABULARY)


def parse_image_count(text: str, option: str = "--images-seen") -> int:
    """Parse a number of images: 80000, 80k, 12.8M or 1.28B."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([kMB]?)", text)
    count = float(match[1]) * UNITS[match[2]] if match else 0.0
    if not 1 <= count <= MOST_IMAGES:
        raise ValueError(
            f"{option} must be 1 to {MOST_IMAGES:,}, as 80000, 80k or 12.8M, got {text[:MAX_ECHOED_CHARACTERS]!r}"
        )
    return round(count)
