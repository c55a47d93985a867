"""The base classes of methods whose loss compares the images of a batch with its captions."""

from typing import TYPE_CHECKING, Any

from bench.experiment.config import Experiment
from bench.interfaces.method import LossCommunication, Method

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.data.targets import CaptionsWithRows
    from models.heads import ProjectedImageTower


class ContrastiveMethod(Method):
    """A method with a loss over image-caption pairs; a text tower embeds captions unless features are stored."""

    compares_batch = True
    vocabulary_field = "subword_vocabulary"

    def reads_captions(self, experiment: Experiment) -> bool:
        return self.runs_text_model_on_captions(experiment)

    def runs_text_model_on_captions(self, experiment: Experiment) -> bool:
        return experiment.text.text_features == "computed"

    def make_target_function(self, experiment: Experiment) -> "Callable[[CaptionsWithRows], Any]":
        from bench.method_parts.captions import make_random_feature_function, make_token_function

        if self.runs_text_model_on_captions(experiment):
            return make_token_function(experiment.text, experiment.targets.subword_vocabulary)
        return make_random_feature_function(experiment.text, experiment.seed)


class SoftmaxContrastiveMethod(ContrastiveMethod):
    """A method whose loss is CLIP's, alone or as a part."""

    # The products are the logits twice, and two gradients.
    communication = LossCommunication(loss_products=4, normaliser_all_reduces=2)

    def after_update(self, model: "ProjectedImageTower") -> None:
        from bench.method_parts.captions import clamp_logit_scale

        clamp_logit_scale(model)
