"""Parts of methods that read captions as tokens: text towers, and functions that turn captions into targets."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from bench.data.targets import Captions, Features, Labels, Tokens
from bench.environment.seeds import TEXT, derive_seed
from bench.experiment.config import Experiment
from bench.experiment.fields import RuntimeSettings
from bench.labels.subwords import SubwordIds
from bench.labels.vocabulary import resolve_head_rows
from losses.collectives import ProcessGroupLike, SimulatedGroup
from losses.contrastive import contrastive_loss
from losses.token_softmax import inverse_document_frequency, token_softmax_loss
from models import Images
from models.heads import DualEncoder, ProjectedImageTower, TokenCounts
from models.image_tower import ImageTower
from models.text_tower import TextTower, build_text_tower, get_text_width, why_padding_is_needed

STORED_CAPTIONS = 16_384  # rows of stored features; further captions share them


def build_contrastive_model(
    tower: ImageTower, experiment: Experiment, initial_scale: float, initial_bias: float | None
) -> ProjectedImageTower:
    """Return the tower with projection and text tower, or without the text tower if captions' features are stored."""
    if experiment.text.text_features == "stored":
        width = get_text_width(experiment.text.text_tower, experiment.text.context_length)
        pair = ProjectedImageTower(
            tower, width, initial_scale=initial_scale, initial_bias=initial_bias
        )
    else:
        pair = DualEncoder(
            tower,
            build_text_tower_of_experiment(experiment),
            initial_scale=initial_scale,
            initial_bias=initial_bias,
        )
    set_loss_options(pair, experiment.runtime)
    return pair


def set_loss_options(pair: ProjectedImageTower, runtime: RuntimeSettings) -> None:
    """Set the precision and the gather of a pair's contrastive loss as the experiment's settings say."""
    pair.loss_in_autocast = runtime.contrastive_precision == "autocast"
    pair.loss_gathers_images = runtime.gather == "both"


@torch.no_grad()
def clamp_logit_scale(pair: ProjectedImageTower) -> None:
    """Keep the logit scale in [1, 100], as open_clip_train does after each update."""
    pair.log_scale.clamp_(0, math.log(100))


def build_text_tower_of_experiment(experiment: Experiment) -> TextTower:
    """Return an experiment's text tower with its initial weights."""
    num_subwords = SubwordIds(experiment.targets.subword_vocabulary).size
    seed = derive_seed(experiment.seed, TEXT)
    return build_text_tower(
        experiment.text.text_tower, experiment.text.context_length, num_subwords, seed
    )


def count_subword_classes(experiment: Experiment) -> int:
    """Return the number of classes, one per row of the weight, of a classifier over subwords."""
    return resolve_head_rows(
        experiment.targets, SubwordIds(experiment.targets.subword_vocabulary).size
    )


def make_token_function(experiment: Experiment) -> Callable[[Captions], Tokens]:
    """Return a function that turns captions into the tokens of a text tower; the experiment's padding is not "auto"."""
    text = experiment.text
    assert text.text_padding != "auto"
    subwords = SubwordIds(experiment.targets.subword_vocabulary)
    start, end = subwords.start_and_end
    padding = "max_length" if why_padding_is_needed(text.text_tower) else text.text_padding

    def tokenize(captions: Captions) -> Tokens:
        return Tokens.from_ids(
            subwords.encode(captions.texts), start, end, text.context_length, padding
        )

    return tokenize


def make_token_or_feature_function(
    experiment: Experiment,
) -> Callable[[Captions], Tokens | Features]:
    """Return a function that turns captions into tokens, or into random features with `text_features="stored"`.

    Random features have the cost of stored ones, and train nothing useful.
    """
    if experiment.text.text_features == "computed":
        return make_token_function(experiment)
    generator = torch.Generator().manual_seed(derive_seed(experiment.seed, TEXT))
    width = get_text_width(experiment.text.text_tower, experiment.text.context_length)
    features = torch.randn(STORED_CAPTIONS, width, generator=generator)
    return lambda captions: Features(features[torch.tensor(captions.rows) % STORED_CAPTIONS])


def make_subword_label_function(experiment: Experiment) -> Callable[[Captions], Labels]:
    """Return a function that turns captions into labels, their subwords, as many as a text tower reads."""
    subwords = SubwordIds(experiment.targets.subword_vocabulary)
    max_labels = experiment.text.context_length - 2  # without start and end token

    def label(captions: Captions) -> Labels:
        return Labels.from_lists([ids[:max_labels] for ids in subwords.encode(captions.texts)])

    return label


def encode_images_and_captions(
    pair: ProjectedImageTower, images: Images, target: Tokens | Features
) -> tuple[Tensor, Tensor]:
    """Return the L2-normalised projections of images, and of their captions or stored features."""
    if isinstance(target, Features):
        return pair.encode_with_text_features(images, target.values)
    image, text = pair(images, *target.inputs)
    return image, text


def clip_loss(
    pair: ProjectedImageTower,
    image_features: Tensor,
    text_features: Tensor,
    group: ProcessGroupLike,
) -> Tensor:
    """Return CLIP's loss of L2-normalised features, with the options of the pair."""
    return contrastive_loss(
        image_features,
        text_features,
        pair.log_scale.exp(),
        group,
        in_autocast=pair.loss_in_autocast,
        gathers_images=pair.loss_gathers_images,
    )


def idf_weighted_softmax_loss(
    logits: Tensor, target: Labels, counts: TokenCounts, group: ProcessGroupLike
) -> Tensor:
    """Add the batch to `counts`, and return SuperClass's loss with the weights by these counts."""
    process_group = None if isinstance(group, SimulatedGroup) else group
    counts.add_batch(target.columns, len(logits), process_group)
    weights = inverse_document_frequency(counts.images_with_token, counts.images_seen)
    return token_softmax_loss(logits, target.rows, target.columns, weights)
