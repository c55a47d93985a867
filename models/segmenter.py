"""A tower with a segmentation head."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import ASPP

from models.image_tower import ImageTower
from models.patch_map import map_shape, patch_map

ASPP_CHANNELS, ASPP_RATES, ASPP_DROPOUT = 512, (12, 24, 36), 0.1
OUTPUT_STRIDE = 8  # pixels


class Segmenter(nn.Module):
    """Map normalised images to a logit for each class and pixel.

    The head is applied to the patch map, which is resampled to an output stride of `stride` pixels if it is given; the
    logits are interpolated to the image size (bilinear).
    """

    def __init__(self, tower: ImageTower, head: nn.Module, stride: int | None = None) -> None:
        super().__init__()
        self.tower, self.head, self.stride = tower, head, stride

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch classes height width"]:
        found, sides = patch_map(self.tower, images), images.shape[-2:]
        if self.stride is not None:
            size = [side // self.stride for side in sides]
            found = F.interpolate(found, size, mode="bilinear", antialias=True)
        return F.interpolate(self.head(found), list(sides), mode="bilinear")


def with_linear_head(tower: ImageTower, num_classes: int) -> Segmenter:
    """Add a linear layer on each position of a tower's patch map."""
    return Segmenter(tower, nn.Conv2d(map_shape(tower)[0], num_classes, 1))


def with_deeplab_head(tower: ImageTower, num_classes: int, channels: int = ASPP_CHANNELS) -> Segmenter:
    """Add DeepLabV3's head to a tower: pyramid pooling at three rates, then a linear layer.

    CoreNet's ViT has an output stride of 8 by smaller strides in its convolutional stem. A patch embedding of one
    convolution cannot have this, so here the map of every tower is resampled to that stride, which adds no detail.
    Source: Chen et al. 2017 (arXiv 1706.05587) by torchvision's modules; channels, rates and dropout by apple/corenet,
    `projects/catlip/semantic_segmentation/deeplabv3_vit_base.yaml`.
    """
    pyramid = ASPP(map_shape(tower)[0], ASPP_RATES, channels)
    pyramid.project[-1] = nn.Dropout2d(ASPP_DROPOUT)
    head = nn.Sequential(pyramid, nn.Conv2d(channels, num_classes, 1))
    return Segmenter(tower, head, OUTPUT_STRIDE)
