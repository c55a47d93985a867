"""Distillation predicts a teacher's features of the augmented image, or stored ones of the whole image; no caption."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from bench.experiment.config import Experiment
from bench.interfaces.method import Communication, Method, NoTarget

if TYPE_CHECKING:
    from torch import Tensor

    from bench.data.targets import Captions, Features
    from losses.collectives import ProcessGroupLike
    from models import Images
    from models.heads import Student
    from models.image_tower import ImageTower


class Distillation(Method):
    """The cosine distance to features of a frozen teacher."""

    name = "distill"
    title = "Distillation"
    targets_description = "features of the same images from a teacher; no caption"
    loss_description = "cosine distance to the teacher's features"
    communication = Communication()
    no_ladder_reason = "learns from another tower"
    has_teacher = True

    def config_errors(self, experiment: Experiment) -> Iterator[str]:
        yield from super().config_errors(experiment)
        if experiment.image.embedding_channels is not None:
            given = f"embedding_channels={experiment.image.embedding_channels}"
            yield f"{given} is not for distill, whose teacher looks at images"

    def build_model(self, tower: "ImageTower", experiment: Experiment) -> "Student":
        from bench.towers.teacher import build_teacher, stored_features
        from models.heads import Student

        stored = stored_features(experiment)
        if stored is not None:
            return Student(tower, None, stored.shape[1])
        teacher = build_teacher(experiment)
        return Student(tower, teacher, teacher.width)

    def targets(self, experiment: Experiment) -> "Callable[[Captions], Any]":
        import torch

        from bench.data.targets import Features
        from bench.towers.teacher import stored_features

        stored = stored_features(experiment)
        if stored is not None:
            return lambda captions: Features(stored[torch.tensor(captions.rows)])
        return super().targets(experiment)

    def loss(
        self,
        model: "Student",
        images: "Images",
        target: "Features | NoTarget",
        _: "ProcessGroupLike",
    ) -> "Tensor":
        from bench.data.targets import Features
        from losses.distillation import cosine_loss

        features = target.values if isinstance(target, Features) else model.teacher_features(images)
        return cosine_loss(model(images), features)
