"""The models that methods build around the shared tower, and the layout of open_clip's own models."""

import math
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Int
from open_clip.timm_model import TimmModel
from torch import Tensor, nn

from models import Features, Images
from models.image_tower import ImageTower
from models.text_tower import TextTower

Projected = Float[Tensor, "batch dim"]  # L2-normalised, in the space of text features
# The same parameters under open_clip's names.
OPEN_CLIP_NAMES = {"log_scale": "logit_scale", "bias": "logit_bias"}


class ProjectedImageTower(nn.Module):
    """An image tower and a projection into the space of text features, with the scale and the bias of the logits.

    The scale is stored as its logarithm; without `initial_bias` there is no bias. Methods differ in the initial values.
    """

    loss_in_autocast = False  # whether the products of CLIP's loss have autocast's dtype
    loss_gathers_images = False  # whether CLIP's loss gathers the images of all ranks, too

    def __init__(
        self,
        tower: ImageTower,
        text_width: int,
        *,
        initial_scale: float,
        initial_bias: float | None,
    ) -> None:
        super().__init__()
        self.tower = tower
        # Scaled as open_clip's VisionTransformer initialises its projection.
        projection = torch.randn(tower.width, text_width)
        self.projection = nn.Parameter(projection / math.sqrt(tower.width))
        self.log_scale = nn.Parameter(torch.tensor(math.log(initial_scale)))
        self.bias = None
        if initial_bias is not None:
            self.bias = nn.Parameter(torch.tensor(initial_bias))

    def project(self, features: Features) -> Projected:
        """Return the L2-normalised projections of the tower's features."""
        return F.normalize(features @ self.projection, dim=-1)


class DualEncoder(ProjectedImageTower):
    """Image tower and text tower, projected into a common space."""

    def __init__(
        self,
        tower: ImageTower,
        text: TextTower,
        *,
        initial_scale: float,
        initial_bias: float | None,
    ) -> None:
        super().__init__(tower, text.width, initial_scale=initial_scale, initial_bias=initial_bias)
        self.text = text

    def forward(self, images: Images, *captions: Any) -> tuple[Projected, Projected]:
        """Return the L2-normalised features of images and captions; `captions` are the arguments of `TextTower`."""
        return self.project_and_encode_captions(self.tower(images), *captions)

    def project_and_encode_captions(
        self, features: Features, *captions: Any
    ) -> tuple[Projected, Projected]:
        """Return the same as `forward` for images whose tower features are given."""
        text_features = self.text(*captions)
        return self.project(features), F.normalize(text_features, dim=-1)


class ImageClassifier(nn.Module):
    """Image tower and a head that gives a logit for each label."""

    def __init__(self, tower: ImageTower, head: nn.Module) -> None:
        super().__init__()
        self.tower = tower
        self.head = head

    def forward(self, images: Images) -> Float[Tensor, "batch labels"]:
        logits: Tensor = self.head(self.tower(images))
        return logits


class TokenCounts(nn.Module):
    """For each subword token, the number of images so far whose caption has it; the loss weights tokens by it."""

    images_with_token: Tensor
    images_seen: Tensor

    def __init__(self, num_tokens: int) -> None:
        super().__init__()
        self.register_buffer("images_with_token", torch.zeros(num_tokens, dtype=torch.float64))
        self.register_buffer("images_seen", torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def add_batch(
        self,
        distinct_token_ids: Int[Tensor, " positives"],
        num_images: int,
        group: dist.ProcessGroup | None = None,
    ) -> None:
        """Count a batch, summed over the ranks of a group.

        `distinct_token_ids` are of image after image, without repeats in an image. `num_images` is this rank's.
        """
        batch_counts = torch.zeros_like(self.images_with_token, dtype=torch.float32)
        batch_counts.index_add_(
            0, distinct_token_ids, torch.ones_like(distinct_token_ids, dtype=torch.float32)
        )
        if group is not None:
            dist.all_reduce(batch_counts, group=group)
            num_images *= dist.get_world_size(group)
        self.images_with_token += batch_counts
        self.images_seen += num_images


def build_token_head(width: int, num_tokens: int) -> nn.Module:
    """Return SuperClass's head, from features of length `width` to a logit for each token: layer norm and linear layer.

    Source: x-cls/superclass at 90b761f, `opencls/open_clip/transformer.py`, `MixClsHead` without hidden layers.
    """
    linear = nn.Linear(width, num_tokens)
    nn.init.normal_(linear.weight, std=width**-0.5)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(nn.LayerNorm(width), linear)


class TokenClassifier(ImageClassifier):
    """A classifier over subword tokens, with the tokens' counts."""

    def __init__(self, tower: ImageTower, num_tokens: int) -> None:
        super().__init__(tower, build_token_head(tower.width, num_tokens))
        self.counts = TokenCounts(num_tokens)


class DualEncoderClassifier(DualEncoder):
    """A contrastive pair whose image tower also feeds a classifier over subword tokens, with the tokens' counts.

    The classifier reads the mean of the patch tokens (`has_patch_mean`), or the pair's feature.
    """

    def __init__(
        self,
        tower: ImageTower,
        text: TextTower,
        num_tokens: int,
        *,
        initial_scale: float,
        has_patch_mean: bool,
    ) -> None:
        super().__init__(tower, text, initial_scale=initial_scale, initial_bias=None)
        self.head = build_token_head(tower.width, num_tokens)
        self.counts = TokenCounts(num_tokens)
        self.has_patch_mean = has_patch_mean

    def compute_contrastive_and_classifier_features(
        self, images: Images
    ) -> tuple[Features, Features]:
        """Return the features that the contrastive pair reads, and the features that the classifier reads."""
        features = self.tower(images, with_patch_mean=self.has_patch_mean)
        return features if self.has_patch_mean else (features, features)


class DistillationStudent(nn.Module):
    """Image tower and a linear layer to the features of a frozen teacher."""

    def __init__(self, tower: ImageTower, teacher: ImageTower) -> None:
        super().__init__()
        self.tower = tower
        self.projection = nn.Linear(tower.width, teacher.width)
        self.teacher = teacher.eval().requires_grad_(False)

    def forward(self, images: Images) -> Float[Tensor, "batch dim"]:
        features: Tensor = self.projection(self.tower(images))
        return features

    @torch.no_grad()
    def compute_teacher_features(self, images: Images) -> Float[Tensor, "batch dim"]:
        """Return the teacher's features of images, which are scaled to its image size."""
        size = self.teacher.image_size
        if images.shape[-1] != size:
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        features: Tensor = self.teacher(images)
        return features


def to_open_clip_state(pair: DualEncoder) -> dict[str, Tensor]:
    """Return the weights of a pair under the names of `open_clip.CLIP`.

    It has no module around the text transformer. A classifier beside the pair is left out. Source: open_clip 3.3.0,
    `open_clip/model.py`, class CLIP.
    """
    left_out = ("head.", "counts.", "tower.", "projection")
    weights = to_open_clip_visual_state(pair.tower, pair.projection.detach())
    for name, value in pair.state_dict().items():
        if not name.startswith(left_out):
            open_clip_name = OPEN_CLIP_NAMES.get(name, name.removeprefix("text.text."))
            weights[open_clip_name] = value
    return weights


def to_open_clip_visual_state(
    tower: ImageTower, projection: Float[Tensor, "width dim"]
) -> dict[str, Tensor]:
    """Return the weights of a tower and its projection under the names of `open_clip.CLIP`."""
    trunk_weights = tower.trunk.state_dict()
    weights = {f"visual.{name}": value for name, value in trunk_weights.items()}
    if isinstance(tower.trunk, TimmModel):
        return weights | {"visual.head.proj.weight": projection.T.contiguous()}
    return weights | {"visual.proj": projection}
