"""SuperClass predicts the subwords of the caption from the mean of the patches, with higher weights for rare ones."""

from typing import TYPE_CHECKING

from bench.experiment.config import Experiment
from bench.interfaces.method import LabelMethod, LossCommunication

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bench.data.targets import CaptionsWithRows, LabelPairs
    from losses.collectives import ProcessGroupLike
    from models import Images
    from models.heads import TokenClassifier
    from models.image_tower import ImageTower


class SuperClass(LabelMethod):
    """Huang et al. 2024, "Classification Done Right for Vision-Language Pre-Training", arXiv:2411.03313."""

    name = "superclass"
    title = "SuperClass"
    targets_description = "labels: the subword tokens of the caption"
    loss_description = (
        "softmax cross-entropy over the subwords, weighted by inverse document frequency"
    )
    communication = LossCommunication()
    ladder_role = "classifier"
    vocabulary_field = "subword_vocabulary"

    def build_model(self, tower: "ImageTower", experiment: Experiment) -> "TokenClassifier":
        from bench.method_parts.captions import count_subword_classes
        from models.heads import TokenClassifier

        return TokenClassifier(tower, count_subword_classes(experiment.targets))

    def make_target_function(
        self, experiment: Experiment
    ) -> "Callable[[CaptionsWithRows], LabelPairs]":
        from bench.method_parts.captions import make_subword_label_function

        return make_subword_label_function(
            experiment.targets.subword_vocabulary, experiment.text.context_length
        )

    def loss(
        self,
        model: "TokenClassifier",
        images: "Images",
        target: "LabelPairs",
        group: "ProcessGroupLike",
    ) -> "Tensor":
        from bench.method_parts.captions import update_counts_and_compute_superclass_loss

        return update_counts_and_compute_superclass_loss(model(images), target, model.counts, group)
