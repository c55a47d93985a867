"""Parts of methods that read captions as tokens: text towers, and functions that turn captions into targets."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.data.targets import CaptionsWithRows, CaptionTokens, LabelPairs, PrecomputedFeatures
from bench.environment.seeds import TEXT, derive_seed
from bench.experiment.config import Experiment
from bench.experiment.fields import RuntimeSettings, TargetSettings, TextPadding, TextSettings
from bench.labels.subwords import SubwordEncoder
from bench.labels.vocabulary import resolve_head_rows
from losses.collectives import ProcessGroupLike, SimulatedGroup
from losses.contrastive import contrastive_loss
from losses.token_softmax import inverse_document_frequency, token_softmax_loss
from models import Images
from models.heads import DualEncoder, ProjectedImageTower, TokenCounts
from models.image_tower import ImageTower
from models.text_tower import (
    TextTower,
    build_text_tower,
    get_text_feature_width,
    reason_padding_affects_features,
)

RANDOM_FEATURE_ROWS = 16_384  # further captions share them


def build_contrastive_model(
    tower: ImageTower, experiment: Experiment, initial_scale: float, initial_bias: float | None
) -> ProjectedImageTower:
    """Return the tower with projection and text tower, or without the text tower if captions have random features."""
    text = experiment.text
    pair: ProjectedImageTower
    if text.text_features == "random":
        width = get_text_feature_width(text.text_tower, text.context_length)
        pair = ProjectedImageTower(
            tower, width, initial_scale=initial_scale, initial_bias=initial_bias
        )
    else:
        text_tower = build_untrained_text_tower(
            text, experiment.targets.subword_vocabulary, experiment.seed
        )
        pair = DualEncoder(
            tower, text_tower, initial_scale=initial_scale, initial_bias=initial_bias
        )
    set_clip_loss_options(pair, experiment.runtime)
    return pair


def set_clip_loss_options(pair: ProjectedImageTower, runtime: RuntimeSettings) -> None:
    """Set on a pair the precision of `clip_loss`, and whether it gathers images, as the settings say."""
    pair.loss_in_autocast = runtime.clip_loss_precision == "autocast"
    pair.loss_gathers_images = runtime.gathered_features == "both"


@torch.no_grad()
def clamp_logit_scale(pair: ProjectedImageTower) -> None:
    """Keep the logit scale in [1, 100], as open_clip_train does after each update."""
    pair.log_scale.clamp_(0, math.log(100))


def build_untrained_text_tower(
    text: TextSettings, subword_vocabulary: str, experiment_seed: int
) -> TextTower:
    """Return an experiment's text tower with its initial weights."""
    num_subwords = SubwordEncoder(subword_vocabulary).size
    seed = derive_seed(experiment_seed, TEXT)
    return build_text_tower(text.text_tower, text.context_length, num_subwords, seed)


def count_subword_classes(targets: TargetSettings) -> int:
    """Return the number of classes, one per row of the weight, of a classifier over subwords."""
    return resolve_head_rows(targets, SubwordEncoder(targets.subword_vocabulary).size)


def make_token_function(
    text: TextSettings, subword_vocabulary: str, *, is_for_decoder: bool = False
) -> Callable[[CaptionsWithRows], CaptionTokens]:
    """Return a function that turns captions into the tokens of a text tower, or of a decoder: one caption to a row.

    The settings' padding is not "auto".
    """
    assert text.text_padding != "auto"
    padding: TextPadding = text.text_padding
    if is_for_decoder:
        padding = "length_groups" if padding == "packed_rows" else padding
    elif reason_padding_affects_features(text.text_tower):
        padding = "max_length"
    subwords = SubwordEncoder(subword_vocabulary)
    start, end = subwords.start_and_end

    def tokenize(captions: CaptionsWithRows) -> CaptionTokens:
        ids = subwords.encode_without_start_and_end(captions.texts)
        return CaptionTokens.from_ids_without_start_and_end(
            ids, start, end, text.context_length, padding
        )

    return tokenize


def make_random_feature_function(
    text: TextSettings, experiment_seed: int
) -> Callable[[CaptionsWithRows], PrecomputedFeatures]:
    """Return a function that turns captions into random features of the width of a text tower's.

    They cost as much as features read from memory, and train nothing useful.
    """
    generator = torch.Generator().manual_seed(derive_seed(experiment_seed, TEXT))
    width = get_text_feature_width(text.text_tower, text.context_length)
    features = torch.randn(RANDOM_FEATURE_ROWS, width, generator=generator)

    def look_up(captions: CaptionsWithRows) -> PrecomputedFeatures:
        rows = torch.tensor(captions.rows) % RANDOM_FEATURE_ROWS
        return PrecomputedFeatures(features[rows])

    return look_up


def make_subword_label_function(
    subword_vocabulary: str, context_length: int
) -> Callable[[CaptionsWithRows], LabelPairs]:
    """Return a function that turns captions into labels, their subwords, as many as a text tower reads."""
    subwords = SubwordEncoder(subword_vocabulary)
    max_labels = context_length - 2  # without start and end token

    def label(captions: CaptionsWithRows) -> LabelPairs:
        ids_by_caption = subwords.encode_without_start_and_end(captions.texts)
        return LabelPairs.from_label_lists([ids[:max_labels] for ids in ids_by_caption])

    return label


def encode_images_and_captions(
    pair: ProjectedImageTower, images: Images, target: CaptionTokens | PrecomputedFeatures
) -> tuple[Tensor, Tensor]:
    """Return the L2-normalised projections of images, and of their captions or random features."""
    if isinstance(target, PrecomputedFeatures):
        image = pair.project(pair.tower(images))
        text = F.normalize(target.values, dim=-1)
    else:
        image, text = pair(images, *target.text_tower_inputs)
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


def update_counts_and_compute_superclass_loss(
    logits: Tensor, target: LabelPairs, counts_to_update: TokenCounts, group: ProcessGroupLike
) -> Tensor:
    """Add the batch to the counts, and return SuperClass's loss with the tokens weighted by the new counts."""
    process_group = None if isinstance(group, SimulatedGroup) else group
    counts = counts_to_update
    counts.add_batch(target.columns, len(logits), process_group)
    weights = inverse_document_frequency(counts.images_with_token, counts.images_seen)
    return token_softmax_loss(logits, target.rows, target.columns, weights)
