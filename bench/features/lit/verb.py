"""The verb `lit`. No torch here."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from bench.cli.options import Json, Repeated, Results, Root, Settings, Tasks, print_results
from bench.cli.train import parse_image_count
from bench.cli.transfer import (
    choose_tasks_and_protocols,
    require_openable_tasks,
    resolve_tower_arguments,
)
from bench.console.console import PROGRAM
from bench.experiment.config import Experiment, change, look_up
from bench.experiment.experiments import LOCKED_IMAGE_LOSS, LockedImageLoss
from bench.experiment.settings import renamed_with_settings
from bench.features.lit.tables import make_zero_shot_table
from bench.interfaces.catalog import SINGLE_LABEL, TASKS
from bench.labels.vocabulary import explain_vocabulary_mismatch
from bench.orchestration.budgets import with_training_images
from bench.orchestration.preflight import begin_comparison, check_and_prepare
from bench.towers.provenance import has_text_tower, is_catlip_bench_tower, read_provenance

PLACE = "{}"  # of a class's name in a template
LEARNING_RATE = 5e-4  # CLIP's at every scale


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedImageTuning:
    """Learn text towers for locked image towers (LiT), and score them zero-shot, beside the cost of both phases.

    The features of the training images are computed once, without augmentation, and stored in RESULTS; a text tower and
    a projection learn on them. A tower that was trained with a text tower is scored with that one, without a second
    phase. Without --task and --root, images and captions of the pack's Twemoji are retrieved, too.
    """

    # tower files that `train` wrote, or experiments whose newest towers in RESULTS are meant
    towers: Positional[Annotated[tuple[str, ...], arg(metavar="TOWER ...")]]
    loss: LockedImageLoss = LOCKED_IMAGE_LOSS  # method whose loss the second phase has
    # number of image-caption pairs in the second phase (80000, 80k or 12.8M); default: as many as the tower has seen
    images: Annotated[str | None, arg(metavar="N")] = None
    # text with {} in place of a class's name; repeatable, and the features of all are averaged; default: CLIP's 80
    # templates for ImageNet
    templates: Annotated[Repeated, arg(name="template", metavar="TEXT")] = ()
    tasks: Tasks = ()
    root: Root = None
    settings: Settings = ()
    results: Results = Path("results")
    json: Json = None

    def run(self) -> int:
        """Score the towers one after the other, and print the table."""
        tasks, root = self._choose_tasks()
        experiments = {path: self._make_experiment(path) for path in self._find_towers()}
        for path, experiment in experiments.items():
            learns = not has_text_tower(path)
            check_and_prepare(
                self.results, [experiment], will_train=learns, tasks=tasks, reads_data=learns
            )
        require_openable_tasks(self.results, root, tasks, [str(path) for path in experiments])
        comparison = begin_comparison(self.results, "lit", list(experiments.values()))
        runs = [
            comparison.new_run(
                "bench.features.lit.runs:score_zero_shot",
                "zero-shot",
                experiment,
                f"zero-shot scores of {path.name}",
                hashlib.sha256(str(path).encode()).hexdigest()[:8],
                tower=str(path),
                templates=self.templates,
                tasks=tasks,
                root=root,
                retrieves_captions=not self.tasks and self.root is None,
            )
            for path, experiment in experiments.items()
        ]
        comparison.runner.run(runs, threads=comparison.cores)
        return print_results(comparison, [make_zero_shot_table(comparison.records())], self.json)

    def _choose_tasks(self) -> tuple[list[str], str]:
        """Return the names of the tasks and the folder of those on disk; ValueError for one that has no prompts."""
        for template in self.templates:
            if PLACE not in template:
                raise ValueError(f"--template {template!r} has no {PLACE} for the name of a class")
        for name in self.tasks:
            kind = look_up(name, TASKS, "task").label_kind
            if kind != SINGLE_LABEL:
                raise ValueError(f"{name} has {kind}: zero-shot needs {SINGLE_LABEL}")
        tasks, root, _ = choose_tasks_and_protocols(self.tasks, self.root, ["k-nn"])
        return tasks, root

    def _find_towers(self) -> list[Path]:
        """Return the tower files; ValueError for what `train` did not write."""
        paths = list[Path]()
        for name in self.towers:
            paths += map(Path, resolve_tower_arguments(name, self.results))
        if not paths:
            raise ValueError(f"name a tower file that `{PROGRAM} train` wrote")
        for path in paths:
            if not is_catlip_bench_tower(path):
                raise ValueError(f"{path} is no tower file that `{PROGRAM} train` wrote")
        return paths

    def _make_experiment(self, tower: Path) -> Experiment:
        """Return the experiment of a tower's second phase; the tower's own if it has a text tower."""
        provenance = read_provenance(tower)
        trained = provenance.experiment
        if has_text_tower(tower):
            return trained
        experiment = change(
            trained,
            name=f"{self.loss}-lit-{trained.name}",
            method=self.loss,
            image_sizes=(),
            text_features="computed",
            augmentation="none",
            workers=0,
            accumulation=1,
            simulated_global_batch=None,
            optimizer="adamw",
            learning_rate=LEARNING_RATE,
            ema_decay=None,
        )
        images = parse_image_count(self.images) if self.images else provenance.images
        experiment = renamed_with_settings(with_training_images(experiment, images), self.settings)
        if explain_vocabulary_mismatch(experiment):
            return change(experiment, subword_vocabulary="all")
        return experiment
