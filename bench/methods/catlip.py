"""CatLIP predicts the WordNet nouns in the caption."""

from typing import TYPE_CHECKING, cast

from bench.experiment.config import Experiment
from bench.interfaces.method import LabelMethod, LossCommunication
from bench.labels.labeller import get_labeller
from bench.labels.vocabulary import read_vocabulary, replace_unshipped_vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bench.data.released_labels import DenseLabels
    from bench.data.targets import CaptionsWithRows, LabelPairs
    from losses.collectives import ProcessGroupLike
    from models import Images
    from models.heads import ImageClassifier
    from models.image_tower import ImageTower


class CatLip(LabelMethod):
    """Mehta et al. 2024, "CatLIP: CLIP-level Visual Recognition Accuracy with 2.7x Faster Pre-training", 2404.15653."""

    name = "catlip"
    title = "CatLIP"
    targets_description = "labels: the WordNet nouns in the caption"
    loss_description = "binary cross-entropy over the vocabulary of synsets"
    communication = LossCommunication()
    ladder_role = "classifier"
    vocabulary_field = "synset_vocabulary"

    def require_inputs(self, experiment: Experiment) -> None:
        get_labeller("corenet", replace_unshipped_vocabulary(experiment.targets.synset_vocabulary))

    def row_synsets(self, experiment: Experiment) -> tuple[str, ...]:
        return read_vocabulary(experiment.targets.synset_vocabulary).keys

    def build_model(self, tower: "ImageTower", experiment: Experiment) -> "ImageClassifier":
        from bench.method_parts.synsets import build_synset_classifier

        return build_synset_classifier(tower, experiment.targets)

    def make_target_function(
        self, experiment: Experiment
    ) -> "Callable[[CaptionsWithRows], LabelPairs | DenseLabels]":
        from bench.method_parts.synsets import make_synset_label_function

        return make_synset_label_function(experiment.targets)

    def loss(
        self,
        model: "ImageClassifier",
        images: "Images",
        target: "LabelPairs | DenseLabels",
        _: "ProcessGroupLike",
    ) -> "Tensor":
        from bench.data.released_labels import DenseLabels
        from losses.multilabel import dense_multilabel_loss, multilabel_loss

        if isinstance(target, DenseLabels):
            return dense_multilabel_loss(model(images), cast("Tensor", target.values))
        return multilabel_loss(model(images), target.rows, target.columns)
