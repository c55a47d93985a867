"""A tower with a head that tells the class of every pixel."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import ASPP

from models.image_tower import ImageTower
from models.patch_map import map_shape, patch_map

ASPP_CHANNELS, ASPP_RATES, ASPP_DROPOUT = 512, (12, 24, 36), 0.1
OUTPUT_STRIDE = 8  # pixels


class Segmenter(nn.Module):
    """Normalised images to a logit for each class and pixel.

    The head works on the patch map, resampled so that a place is `stride` pixels wide where a stride is given; its
    logits are scaled up (bilinear).
    """

    def __init__(self, tower: ImageTower, head: nn.Module, stride: int | None = None) -> None:
        super().__init__()
        self.tower, self.head, self.stride = tower, head, stride

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch classes height width"]:
        """Return logits."""
        found, sides = patch_map(self.tower, images), images.shape[-2:]
        if self.stride is not None:
            size = [side // self.stride for side in sides]
            found = F.interpolate(found, size, mode="bilinear", antialias=True)
        return F.interpolate(self.head(found), list(sides), mode="bilinear")


def with_linear_head(tower: ImageTower, num_classes: int) -> Segmenter:
    """Put one linear layer behind each place of a tower's map."""
    return Segmenter(tower, nn.Conv2d(map_shape(tower)[0], num_classes, 1))


def with_deeplab_head(tower: ImageTower, num_classes: int, channels: int = ASPP_CHANNELS) -> Segmenter:
    """Put DeepLabV3's head behind a tower: pyramid pooling at three rates, then one linear layer.

    CoreNet's ViT reaches an output stride of 8 by the strides of its convolutional stem. A patch embedding of one
    convolution has no such choice, so here the map is resampled to that stride, for all towers alike: what a place
    knows is still that of its patch.
    Source: Chen et al. 2017 (arXiv 1706.05587) by torchvision's modules; channels, rates and dropout by apple/corenet,
    `projects/catlip/semantic_segmentation/deeplabv3_vit_base.yaml`.
    """
    pyramid = ASPP(map_shape(tower)[0], ASPP_RATES, channels)
    pyramid.project[-1] = nn.Dropout2d(ASPP_DROPOUT)
    head = nn.Sequential(pyramid, nn.Conv2d(channels, num_classes, 1))
    return Segmenter(tower, head, OUTPUT_STRIDE)
