"""SuperCLIP adds CLIP's loss on the class token and SuperClass's on the mean of the patches, with equal weights."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from bench.experiment.config import Experiment
from bench.interfaces.method import LabelMethod
from bench.methods.clip import SCALE
from bench.methods.contrastive import SoftmaxContrastiveMethod

if TYPE_CHECKING:
    from torch import Tensor

    from bench.data.targets import CaptionsWithRows, TokensAndLabels
    from losses.collectives import ProcessGroupLike
    from models import Images
    from models.heads import DualEncoderClassifier
    from models.image_tower import ImageTower


class SuperClip(SoftmaxContrastiveMethod, LabelMethod):
    """Zhao et al. 2025, "SuperCLIP: CLIP with Simple Classification Supervision"; code: hustvl/SuperCLIP at fb59c6d."""

    name = "superclip"
    title = "SuperCLIP"
    targets_description = (
        "the caption's token ids, through a text tower, and its subword tokens as labels"
    )
    loss_description = "the sum of CLIP's contrastive loss and SuperClass's softmax cross-entropy, with equal weights"
    no_ladder_reason = "adds to a pair of towers"
    accepts_mean_for_classifier = True

    def config_errors(self, experiment: Experiment) -> Iterator[str]:
        if experiment.text.text_features == "random":
            yield "text_features must be computed, for superclip reads captions twice, got random"

    def build_model(self, tower: "ImageTower", experiment: Experiment) -> "DualEncoderClassifier":
        from bench.method_parts.captions import (
            build_untrained_text_tower,
            count_subword_classes,
            set_clip_loss_options,
        )
        from models.heads import DualEncoderClassifier

        text_tower = build_untrained_text_tower(
            experiment.text, experiment.targets.subword_vocabulary, experiment.seed
        )
        pair = DualEncoderClassifier(
            tower,
            text_tower,
            count_subword_classes(experiment.targets),
            initial_scale=SCALE,
            has_patch_mean=experiment.image.pooling == "mean_for_classifier",
        )
        set_clip_loss_options(pair, experiment.runtime)
        return pair

    def make_target_function(
        self, experiment: Experiment
    ) -> "Callable[[CaptionsWithRows], TokensAndLabels]":
        from bench.data.targets import TokensAndLabels
        from bench.method_parts.captions import make_subword_label_function, make_token_function

        text = experiment.text
        vocabulary = experiment.targets.subword_vocabulary
        to_tokens = make_token_function(text, vocabulary)
        to_labels = make_subword_label_function(vocabulary, text.context_length)
        return lambda captions: TokensAndLabels(to_tokens(captions), to_labels(captions))

    def loss(
        self,
        model: "DualEncoderClassifier",
        images: "Images",
        target: "TokensAndLabels",
        group: "ProcessGroupLike",
    ) -> "Tensor":
        from bench.method_parts.captions import clip_loss, update_counts_and_compute_superclass_loss

        feature, classified = model.compute_contrastive_and_classifier_features(images)
        image, text = model.project_and_encode_captions(feature, *target.tokens.text_tower_inputs)
        contrastive = clip_loss(model, image, text, group)
        logits = model.head(classified)
        return contrastive + update_counts_and_compute_superclass_loss(
            logits, target.labels, model.counts, group
        )
