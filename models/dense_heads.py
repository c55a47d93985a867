"""Heads on a tower's patch map: segmentation, and Mask R-CNN with a feature pyramid from the last map alone."""

from collections import OrderedDict
from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.segmentation.deeplabv3 import ASPP
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import LevelMapper

from models.image_tower import ImageTower
from models.patch_map import compute_patch_feature_map, copy_resized_tower

ASPP_CHANNELS = 512
ASPP_RATES = (12, 24, 36)
ASPP_DROPOUT = 0.1
OUTPUT_STRIDE = 8  # pixels
LEVEL_SCALES = (4.0, 2.0, 1.0, 0.5)  # of the levels, relative to the patch map
COARSEST_SCALE = LEVEL_SCALES[-1] / 2  # of the level that only proposals use
ANCHOR_RATIOS = (0.5, 1.0, 2.0)  # of the anchors' sides
ANCHOR_SIDE = 8  # side of a level's anchors, in positions of the level: 32 px at a stride of 4
CANONICAL_SIDE = 14  # side, in patches, of a region that is pooled from the level of the patch map
FINEST_LEVEL = 2  # the pooling's number of the finest level; its distance to OWN_LEVEL matters
OWN_LEVEL = 4  # the pooling's number of the patch map's level
BOX_POOL_SIDE = 7  # side of a pooled region
MASK_POOL_SIDE = 14
NORM_EPS = 1e-5


class Segmenter(nn.Module):
    """Map normalised images to a logit for each class and pixel.

    The head is applied to the patch map, which is resampled to `OUTPUT_STRIDE` pixels per position; the logits are
    interpolated to the image size (bilinear).
    """

    def __init__(self, tower: ImageTower, head: nn.Module) -> None:
        super().__init__()
        self.tower = tower
        self.head = head

    def forward(
        self, images: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch classes side side"]:
        """Return the logits, at the size of the images."""
        side = images.shape[-1]
        features = compute_patch_feature_map(self.tower, images)
        features = F.interpolate(features, side // OUTPUT_STRIDE, mode="bilinear", antialias=True)
        return F.interpolate(self.head(features), side, mode="bilinear")


def build_deeplab_segmenter(
    tower: ImageTower, num_classes: int, channels: int = ASPP_CHANNELS
) -> Segmenter:
    """Return a segmenter with DeepLabV3's head: pyramid pooling at three rates, then a linear layer.

    CoreNet's ViT has an output stride of 8 by smaller strides in its convolutional stem. A patch embedding of one
    convolution cannot have this, so here the map of every tower is resampled to that stride, which adds no detail.
    Source: Chen et al. 2017 (arXiv 1706.05587) by torchvision's modules; channels, rates and dropout by apple/corenet,
    `projects/catlip/semantic_segmentation/deeplabv3_vit_base.yaml`.
    """
    pyramid = ASPP(tower.infer_patch_token_width(), ASPP_RATES, channels)
    pyramid.project[-1] = nn.Dropout2d(ASPP_DROPOUT)
    head = nn.Sequential(pyramid, nn.Conv2d(channels, num_classes, 1))
    return Segmenter(tower, head)


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionHeadSizes:
    """Sizes of the pyramid and the heads of Mask R-CNN."""

    channels: int  # of the pyramid and the mask head
    box_features: int
    num_mask_layers: int
    proposals_per_image: int  # that are kept
    regions_per_image: int  # that are sampled in training


class SimplePyramid(nn.Module):
    """Map normalised images to maps of 4, 2, 1 and 1/2 times a tower's patch map, and 1/4 for proposals alone.

    Source: Li et al. 2022, "Exploring plain vision transformer backbones for object detection" (arXiv 2203.16527),
    section 3 and appendix A.2: deconvolutions of stride 2 or pooling, then convolutions of 1 x 1 and 3 x 3, each
    normed. Between two deconvolutions are a norm and GELU.
    """

    def __init__(self, tower: ImageTower, channels: int) -> None:
        super().__init__()
        self.tower = tower
        self.out_channels = channels
        width = tower.infer_patch_token_width()
        self.levels = nn.ModuleList()
        for scale in LEVEL_SCALES:
            scaled_width = round(width / max(1, scale))
            layers = _build_scaling_layers(width, scale) + _build_normed_1x1_and_3x3(
                scaled_width, channels
            )
            self.levels.append(nn.Sequential(*layers))

    def forward(self, images: Float[Tensor, "batch 3 side side"]) -> OrderedDict[str, Tensor]:
        """Return the maps, finest first, by the names that torchvision's detectors expect."""
        features = compute_patch_feature_map(self.tower, images)
        maps = OrderedDict[str, Tensor]()
        for number, level in enumerate(self.levels):
            level_map = level(features)
            maps[str(number)] = level_map
        maps["pool"] = F.max_pool2d(level_map, 1, 2)
        return maps


def copy_tower_for_mask_rcnn(tower: ImageTower, nearest_image_size: int) -> ImageTower:
    """Return a copy of a tower for images of about this size, which all strides of the pyramid divide.

    ValueError for patches whose side is no multiple of 4 pixels.
    """
    patch = tower.infer_patch_size()
    if patch % max(LEVEL_SCALES):
        raise ValueError(
            f"a detector needs patches of a multiple of 4 px, this tower has {patch} px"
        )
    coarsest_stride = round(patch / COARSEST_SCALE)
    size = max(1, round(nearest_image_size / coarsest_stride)) * coarsest_stride
    return copy_resized_tower(tower, size, last_block_computes_patches=True)


def build_mask_rcnn(
    tower: ImageTower, num_classes_with_background: int, head_sizes: DetectionHeadSizes
) -> MaskRCNN:
    """Build Mask R-CNN on a tower that `copy_tower_for_mask_rcnn` returned.

    Images with pixels from 0 to 1 are normalised as the tower takes them, and resized to a square of its size, as in
    CoreNet. Boxes and masks keep the size of the given image.
    """
    patch = tower.infer_patch_size()
    scales = [*LEVEL_SCALES, COARSEST_SCALE]
    strides = [round(patch / scale) for scale in scales]
    sizes = tuple((ANCHOR_SIDE * stride,) for stride in strides)
    return MaskRCNN(
        SimplePyramid(tower, head_sizes.channels),
        fixed_size=(tower.image_size, tower.image_size),
        size_divisible=strides[-1],
        image_mean=list(OPENAI_DATASET_MEAN),
        image_std=list(OPENAI_DATASET_STD),
        rpn_anchor_generator=AnchorGenerator(sizes, (ANCHOR_RATIOS,) * len(sizes)),
        rpn_pre_nms_top_n_train=2 * head_sizes.proposals_per_image,
        rpn_pre_nms_top_n_test=head_sizes.proposals_per_image,
        rpn_post_nms_top_n_train=head_sizes.proposals_per_image,
        rpn_post_nms_top_n_test=head_sizes.proposals_per_image,
        box_roi_pool=_build_roi_align(BOX_POOL_SIDE, patch),
        box_head=TwoMLPHead(head_sizes.channels * BOX_POOL_SIDE**2, head_sizes.box_features),
        box_predictor=FastRCNNPredictor(head_sizes.box_features, num_classes_with_background),
        box_batch_size_per_image=head_sizes.regions_per_image,
        mask_roi_pool=_build_roi_align(MASK_POOL_SIDE, patch),
        mask_head=MaskRCNNHeads(
            head_sizes.channels, (head_sizes.channels,) * head_sizes.num_mask_layers, 1
        ),
        mask_predictor=MaskRCNNPredictor(
            head_sizes.channels, head_sizes.channels, num_classes_with_background
        ),
    )


def _build_roi_align(pool_side: int, patch_size: int) -> MultiScaleRoIAlign:
    """Return the pooling of regions with the maps' true scales; torchvision would assume powers of two."""
    level_names = [str(number) for number in range(len(LEVEL_SCALES))]
    pooling = MultiScaleRoIAlign(level_names, pool_side, sampling_ratio=2)
    pooling.scales = [scale / patch_size for scale in LEVEL_SCALES]
    coarsest = FINEST_LEVEL + len(LEVEL_SCALES) - 1
    canonical_pixels = CANONICAL_SIDE * patch_size
    pooling.map_levels = LevelMapper(FINEST_LEVEL, coarsest, canonical_pixels, OWN_LEVEL)
    return pooling


def _build_scaling_layers(width: int, scale: float) -> list[nn.Module]:
    """Return the layers that scale a map; channels are halved whenever sides are doubled."""
    layers: list[nn.Module] = []
    while scale > 1:
        if layers:
            layers += [LayerNorm2d(width, eps=NORM_EPS), nn.GELU()]
        layers.append(nn.ConvTranspose2d(width, width // 2, 2, 2))
        width //= 2
        scale /= 2
    return [nn.MaxPool2d(2)] if scale < 1 else layers


def _build_normed_1x1_and_3x3(in_channels: int, out_channels: int) -> list[nn.Module]:
    """Return convolutions of 1 x 1 and 3 x 3, each followed by a layer norm, without activations."""
    return [
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        LayerNorm2d(out_channels, eps=NORM_EPS),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        LayerNorm2d(out_channels, eps=NORM_EPS),
    ]
