"""Cap predicts the caption of an image token by token."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bench.experiment.config import Experiment
from bench.interfaces.method import LossCommunication, Method

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bench.data.targets import CaptionsWithRows, CaptionTokens
    from losses.collectives import ProcessGroupLike
    from models import Images
    from models.image_tower import ImageTower
    from models.text_decoder import Captioner


class Cap(Method):
    """Tschannen et al. 2023, "Image Captioners Are Scalable Vision Learners Too", arXiv:2306.07915."""

    name = "cap"
    title = "Cap"
    targets_description = "the caption's token ids, through a text decoder"
    loss_description = (
        "cross-entropy of each token, given the image's patches and the tokens before it"
    )
    communication = LossCommunication()
    no_ladder_reason = "predicts captions token by token"
    vocabulary_field = "subword_vocabulary"
    reads_patch_tokens = True
    text_module = "decoder"
    packs_captions = False

    def config_errors(self, experiment: Experiment) -> Iterator[str]:
        if experiment.text.text_features == "random":
            yield "text_features must be computed, for cap predicts captions, got random"
        text = experiment.text
        if experiment.runtime.sharding != "ddp" and text.text_padding not in (
            "longest",
            "max_length",
        ):
            yield (
                "text_padding must be longest or max_length for cap with sharding, whose ranks must call the decoder "
                f"equally often, got {text.text_padding}"
            )
        if text.parallel_caption_share > 0 and text.text_padding != "max_length":
            yield (
                "text_padding must be max_length with parallel_caption_share, whose mask tokens attend to padding, got "
                f"{text.text_padding}"
            )

    def runs_text_model_on_captions(self, _: Experiment) -> bool:
        return True

    def build_model(self, tower: "ImageTower", experiment: Experiment) -> "Captioner":
        from bench.labels.subwords import SubwordEncoder
        from models.text_decoder import Captioner, TextDecoder

        decoder = TextDecoder(
            tower.infer_patch_token_width(),
            experiment.text.decoder_layers,
            SubwordEncoder(experiment.targets.subword_vocabulary).size,
            experiment.text.context_length,
            experiment.text.parallel_caption_share,
        )
        return Captioner(tower, decoder)

    def make_target_function(
        self, experiment: Experiment
    ) -> "Callable[[CaptionsWithRows], CaptionTokens]":
        from bench.method_parts.captions import make_token_function

        vocabulary = experiment.targets.subword_vocabulary
        return make_token_function(experiment.text, vocabulary, is_for_decoder=True)

    def loss(
        self, model: "Captioner", images: "Images", target: "CaptionTokens", _: "ProcessGroupLike"
    ) -> "Tensor":
        loss: Tensor = model.decoder(*self.text_inputs(model, images, target))
        return loss

    def text_inputs(
        self, model: "Captioner", images: "Images", captions: "CaptionTokens"
    ) -> tuple[Any, ...]:
        # No positions: one caption to a row.
        groups_ends_and_permutation = captions.text_tower_inputs[:3]
        return model.tower.compute_patch_tokens(images), *groups_ends_and_permutation
