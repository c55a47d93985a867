"""The second phase: a text tower and a projection learn on the stored features of a locked image tower.

Source: Zhai et al. 2022, "LiT: Zero-Shot Transfer with Locked-image text Tuning", arXiv 2111.07991.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import torch
from jaxtyping import Float
from torch import Tensor, nn

from bench.console.console import StopRequest, UserError, log
from bench.data.stream import Batch, BatchStream
from bench.data.targets import Target, to_device_async
from bench.environment.files import atomic_write, decode_json
from bench.experiment.config import Experiment
from bench.features.lit.records import SecondPhase
from bench.features.lit.stored_features import StoredFeatures
from bench.orchestration.budgets import image_budgets, with_training_images_and_short_warmup
from bench.profilers.clock import time_synchronized_block
from bench.train.build import (
    TrainRun,
    build_train_run,
    open_batch_stream,
    take_steps_at_full_learning_rate,
)
from bench.train.checkpoint_manager import CheckpointManager
from bench.train.checkpoints import (
    CheckpointConfig,
    find_latest_valid_checkpoint,
    list_checkpoints_newest_first,
    lock_training_folder,
)
from bench.train.loop import train
from models.image_tower import ImageTower

T = TypeVar("T", bound=Target)
TEXT_TOWER = "text.safetensors"  # names the file of the text tower, as of a tower's; it is not written itself
PHASE = "phase.json"  # a `SecondPhase`, written last
CHECKPOINT_MINUTES = 15.0
UNTIMED_STEPS = 5
TIMED_STEPS = 30  # whose seconds decide how many steps a total allows
MIN_STEPS = 10


class FeatureStream(BatchStream[T]):
    """Batches of stored features, as grids of one embedding, with the targets of another stream's captions."""

    def __init__(self, captions: BatchStream[T], features: StoredFeatures) -> None:
        super().__init__(captions.experiment, captions.device)
        captions.order = replace(captions.order, shown=features.shown_samples())
        self.order = captions.order
        self._captions = captions
        self._features = features

    def load_batch_parts(self, k: int) -> tuple[Float[Tensor, "batch width"], T]:
        rows = self.order.batch_rows(k).numpy()
        return torch.from_numpy(self._features.values[rows]), self.target(k)

    def make_batch(self, loaded: tuple[Float[Tensor, "batch width"], T]) -> Batch[T]:
        values, target = loaded
        grids = to_device_async(values, self.device)[:, :, None, None]
        return Batch(grids, target.to(self.device))

    def target(self, k: int) -> T:
        """Return the target that the captions of batch k have, whose features take the place of the images."""
        return self._captions.target(k)

    def keys(self, k: int) -> Sequence[str]:
        return self._captions.keys(k)


def build_run_on_features(captions: BatchStream[Any], features: StoredFeatures) -> TrainRun:
    """Return a training of a contrastive method on stored features, with the captions of a stream of the same samples.

    The tower has no weights and returns the feature, so that the loss is the method's with a locked tower.
    """
    tower = ImageTower(nn.Flatten(), image_size=1, channels=features.values.shape[1])
    return build_train_run(FeatureStream(captions, features), tower)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TextPhase:
    """The training of a text tower on stored features."""

    experiment: Experiment
    device: torch.device
    results: Path
    comparison: str  # name
    folder: Path  # of its checkpoints, its text tower and its costs
    features: StoredFeatures
    num_devices: float  # whose seconds a second of the wall clock costs
    seconds: float | None  # device seconds that it is to take; None: the experiment's images decide

    def load_or_train(self, stop: StopRequest) -> SecondPhase:
        """Train the text tower, unless the folder has it, and return what the phase took.

        A stopped training goes on from its newest checkpoint. A signal to end saves one and raises SystemExit.
        UserError if its seconds are too few.
        """
        path = self.folder / PHASE
        if not path.is_file():
            with lock_training_folder(self.folder):
                phase = self._train(stop)
            with atomic_write(path) as temporary:
                temporary.write_bytes(msgspec.json.encode(phase))
        log(f"text tower of {self.experiment.name}: {self.folder}")
        return decode_json(path.read_bytes(), SecondPhase)

    def _train(self, stop: StopRequest) -> SecondPhase:
        """Train from the start or from the newest checkpoint, whose number of images is kept."""
        experiment = self.experiment
        resume_from = ""
        with time_synchronized_block(self.device) as fitting:
            if list_checkpoints_newest_first(self.folder):
                checkpoint, saved = find_latest_valid_checkpoint(self.folder)
                resume_from = str(checkpoint)
                experiment = saved.experiment
            elif self.seconds is not None:
                experiment = with_training_images_and_short_warmup(
                    experiment, self._count_images(self.seconds)
                )
        budgets = image_budgets(experiment, {})
        config = CheckpointConfig(
            folder=str(self.folder), interval_minutes=CHECKPOINT_MINUTES, resume_from=resume_from
        )
        manager = CheckpointManager(config, self.comparison, stop)
        training = train(
            experiment,
            self.device,
            self.results,
            budgets,
            lambda _: self.folder / TEXT_TOWER,
            manager,
            self._build_run(experiment),
        )
        stop.can_save = False
        return SecondPhase(
            loss=experiment.method,
            images=training.branches[0].images,
            feature_seconds=self.features.cost.seconds,
            text_seconds=(training.seconds + fitting.seconds) * self.num_devices,
            last_loss=training.cooldown_losses[0][-1],
        )

    def _build_run(self, experiment: Experiment) -> TrainRun:
        captions = open_batch_stream(experiment, self.device, self.results)
        return build_run_on_features(captions, self.features)

    def _count_images(self, device_seconds: float) -> int:
        """Return how many images the seconds allow, by the time of some steps of a training that is thrown away."""
        with time_synchronized_block(self.device) as elapsed:
            run = self._build_run(self.experiment)
            take_steps_at_full_learning_rate(run, range(UNTIMED_STEPS))
            with time_synchronized_block(self.device) as timed:
                take_steps_at_full_learning_rate(run, range(TIMED_STEPS))
        left = device_seconds / self.num_devices - elapsed.seconds
        num_steps = int(TIMED_STEPS * left / timed.seconds)
        if num_steps < MIN_STEPS:
            raise UserError(
                f"--device-seconds-of-both-phases leaves {device_seconds:.1f} device seconds for the text tower: "
                "too few"
            )
        return num_steps * self.experiment.training.batch_size
