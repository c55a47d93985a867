"""Distillation predicts a teacher's features of the augmented image, without captions."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench.experiment.config import Experiment
from bench.interfaces.method import LossCommunication, Method, NoTarget

if TYPE_CHECKING:
    from torch import Tensor

    from losses.collectives import ProcessGroupLike
    from models import Images
    from models.heads import DistillationStudent
    from models.image_tower import ImageTower


class Distillation(Method):
    """The cosine distance to features of a frozen teacher."""

    name = "distill"
    title = "Distillation"
    targets_description = "features of the same images from a teacher; no caption"
    loss_description = "cosine distance to the teacher's features"
    communication = LossCommunication()
    no_ladder_reason = "learns from another tower"
    has_teacher = True

    def config_errors(self, experiment: Experiment) -> Iterator[str]:
        if experiment.image.input_embedding_grid_channels is not None:
            given = (
                f"input_embedding_grid_channels={experiment.image.input_embedding_grid_channels}"
            )
            yield f"{given} is not for distill, whose teacher looks at images"

    def build_model(self, tower: "ImageTower", experiment: Experiment) -> "DistillationStudent":
        from bench.towers.teacher import build_teacher
        from models.heads import DistillationStudent

        teacher = build_teacher(
            experiment.targets.teacher_tower, experiment.image.image_size, experiment.seed
        )
        return DistillationStudent(tower, teacher)

    def loss(
        self,
        model: "DistillationStudent",
        images: "Images",
        _target: "NoTarget",
        _: "ProcessGroupLike",
    ) -> "Tensor":
        from losses.distillation import cosine_loss

        # The teacher's memory is free before the student stores activations.
        teacher_features = model.compute_teacher_features(images)
        return cosine_loss(model(images), teacher_features)
