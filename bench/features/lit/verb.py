"""The verb `lit`. No torch here."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from bench.cli.options import (
    Json,
    Repeated,
    Results,
    ScoreOn,
    Settings,
    Tasks,
    print_results_and_get_exit_code,
)
from bench.cli.train import parse_image_count
from bench.cli.transfer import (
    choose_single_label_tasks,
    require_openable_disk_tasks_and_towers,
    resolve_tower_arguments,
)
from bench.console.console import PROGRAM
from bench.console.options import require_option_in_range
from bench.experiment.config import Experiment, change
from bench.experiment.experiments import EXPERIMENTS, LOCKED_IMAGE_LOSS, LockedImageLoss
from bench.experiment.settings import renamed_with_settings
from bench.features.lit.tables import make_zero_shot_table
from bench.interfaces.catalog import REFERENCE_TOWER_EXTRA
from bench.labels.vocabulary import explain_vocabulary_mismatch
from bench.orchestration.budgets import with_training_images_and_short_warmup
from bench.orchestration.preflight import begin_comparison, require_runnable_and_prepare_data
from bench.towers.provenance import has_text_tower, is_catlip_bench_tower, read_tower_provenance

PLACE = "{}"  # of a class's name in a template
LEARNING_RATE = 5e-4  # CLIP's at every scale
# Range of seconds and prices.
LEAST = 1e-6
MOST = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedImageTuning:
    """Learn text towers for locked image towers (LiT), and score them zero-shot, beside the cost of both phases.

    The features of the training images are computed once, without augmentation, and stored in RESULTS; a text tower and
    a projection learn on them, and are stored there, too. The same command goes on where it was stopped. A tower that
    was trained with a text tower is scored with that one, without a second phase. Without --task and --score-on,
    images and captions of the pack's Twemoji are retrieved, too.
    """

    # tower files that `train` wrote, experiments whose newest towers in RESULTS are meant, or reference-tower:
    # EfficientNet-Lite0 of the extra with this name, which learns with the settings of clip-tiny
    towers: Positional[Annotated[tuple[str, ...], arg(metavar="TOWER ...")]]
    loss: LockedImageLoss = LOCKED_IMAGE_LOSS  # method whose loss the second phase has
    # number of image-caption pairs in the second phase (80000, 80k or 12.8M); default: as many as the tower has seen
    images_seen: Annotated[str | None, arg(metavar="N")] = None
    # device seconds of both phases of a tower together, in place of --images-seen: the second phase takes what the
    # tower's training, if its cost is known, has left of them
    device_seconds_of_both_phases: Annotated[float | None, arg(metavar="S")] = None
    # price of one device-hour, in any currency; the price of both phases is then shown
    price_per_hour: float | None = None
    # text with {} in place of a class's name; repeatable, and the features of all are averaged; default: CLIP's 80
    # templates for ImageNet
    templates: Annotated[Repeated, arg(name="template", metavar="TEXT")] = ()
    tasks: Tasks = ()
    score_on: ScoreOn = None
    settings: Settings = ()
    results: Results = Path("results")
    json: Json = None

    def run(self) -> int:
        """Score the towers one after the other, and print the table."""
        self._require_valid_options()
        tasks, root = choose_single_label_tasks(self.tasks, self.score_on, "zero-shot")
        experiments = {tower: self._make_experiment(tower) for tower in self._find_towers()}
        for tower, experiment in experiments.items():
            learns = not has_text_tower(Path(tower))
            require_runnable_and_prepare_data(
                self.results, [experiment], will_train=learns, tasks=tasks, reads_data=learns
            )
        require_openable_disk_tasks_and_towers(self.results, root, tasks, list(experiments))
        comparison = begin_comparison(self.results, "lit", list(experiments.values()))
        runs = [
            comparison.new_run(
                "bench.features.lit.runs:score_zero_shot",
                "zero-shot",
                experiment,
                f"zero-shot scores of {Path(tower).name}",
                hashlib.sha256(tower.encode()).hexdigest()[:8],
                saves_checkpoints=True,
                tower=tower,
                templates=self.templates,
                tasks=tasks,
                root=root,
                retrieves_captions=not self.tasks and self.score_on is None,
                total_seconds=self.device_seconds_of_both_phases,
                price=self.price_per_hour,
            )
            for tower, experiment in experiments.items()
        ]
        comparison.runner.run(runs, threads=comparison.cores)
        return print_results_and_get_exit_code(
            comparison, [make_zero_shot_table(comparison.records())], self.json
        )

    def _require_valid_options(self) -> None:
        """Raise ValueError for a number out of range, two lengths, or a template without a place."""
        require_option_in_range(
            "device-seconds-of-both-phases", self.device_seconds_of_both_phases, LEAST, MOST
        )
        require_option_in_range("price-per-hour", self.price_per_hour, LEAST, MOST)
        if self.images_seen and self.device_seconds_of_both_phases is not None:
            raise ValueError(
                "--device-seconds-of-both-phases decides how many images are seen: leave out --images-seen"
            )
        for template in self.templates:
            if PLACE not in template:
                raise ValueError(f"--template {template!r} has no {PLACE} for the name of a class")

    def _find_towers(self) -> list[str]:
        """Return the paths of the tower files; ValueError for what `train` did not write."""
        towers = list[str]()
        for name in self.towers:
            towers += resolve_tower_arguments(name, self.results)
        if not towers:
            raise ValueError(f"name a tower file that `{PROGRAM} train` wrote")
        for tower in towers:
            if tower != REFERENCE_TOWER_EXTRA and not is_catlip_bench_tower(Path(tower)):
                raise ValueError(f"{tower} is no tower file that `{PROGRAM} train` wrote")
        return towers

    def _make_experiment(self, tower: str) -> Experiment:
        """Return the experiment of a tower's second phase; the tower's own if it has a text tower."""
        if tower == REFERENCE_TOWER_EXTRA:
            from bench.towers.tower_from import load_reference_tower  # with torch

            loaded = load_reference_tower()
            trained = change(
                EXPERIMENTS["clip-tiny"],
                name=REFERENCE_TOWER_EXTRA,
                tower=loaded.architecture,
                image_size=loaded.tower.image_size,
            )
            images = trained.training.images_seen
        else:
            provenance = read_tower_provenance(Path(tower))
            trained = provenance.experiment
            images = provenance.images
        if has_text_tower(Path(tower)):
            return trained
        experiment = change(
            trained,
            name=f"{self.loss}-lit-{trained.name}",
            method=self.loss,
            random_image_sizes=(),
            text_features="computed",
            augmentation="none",
            workers=0,
            micro_batches=1,
            simulated_global_batch=None,
            optimizer="adamw",
            learning_rate=LEARNING_RATE,
            ema_decay=None,
        )
        if self.images_seen:
            images = parse_image_count(self.images_seen)
        experiment = renamed_with_settings(
            with_training_images_and_short_warmup(experiment, images), self.settings
        )
        if explain_vocabulary_mismatch(experiment):
            return change(experiment, subword_vocabulary="all")
        return experiment
