"""The base classes of methods whose loss compares the images of a batch with its captions."""

from typing import TYPE_CHECKING, Any

from bench.experiment.config import Experiment
from bench.interfaces.method import Communication, Method

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.data.targets import Captions
    from models.heads import ProjectedImageTower


class ContrastiveMethod(Method):
    """A text tower embeds the captions, unless their features are stored."""

    compares_batch = True
    vocabulary_field = "subword_vocabulary"

    def reads_captions(self, experiment: Experiment) -> bool:
        return self.embeds_captions(experiment)

    def embeds_captions(self, experiment: Experiment) -> bool:
        return experiment.text.text_features == "computed"

    def targets(self, experiment: Experiment) -> "Callable[[Captions], Any]":
        from bench.method_parts.captions import token_or_feature_function

        return token_or_feature_function(experiment)


class SoftmaxContrastiveMethod(ContrastiveMethod):
    """CLIP's loss is the method's, or a part of it."""

    # The products are the logits twice, and two gradients.
    communication = Communication(
        loss_products=4, normaliser_all_reduces=2, gathers_images_as_released=True
    )

    def after_update(self, model: "ProjectedImageTower") -> None:
        from bench.method_parts.captions import clamp_scale

        clamp_scale(model)
