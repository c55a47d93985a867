"""What methods share whose loss compares the images of a batch with its captions."""

from typing import TYPE_CHECKING, Any

from bench.config import Experiment
from bench.method import Method

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.data.targets import Captions


class ContrastiveMethod(Method):
    """A text tower embeds the captions, unless their features are stored."""

    compares_batch = True
    vocabulary_field = "subword_vocabulary"

    def reads_captions(self, experiment: Experiment) -> bool:
        return self.embeds_captions(experiment)

    def embeds_captions(self, experiment: Experiment) -> bool:
        return experiment.text_features == "computed"

    def targets(self, experiment: Experiment) -> "Callable[[Captions], Any]":
        from bench.method_parts.captions import tokens_or_features

        return tokens_or_features(experiment)
