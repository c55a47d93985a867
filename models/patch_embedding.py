"""The patch embedding of vision transformers as a matrix product."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from open_clip.transformer import VisionTransformer as OpenClipViT
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn

from models import Images


class PatchEmbedding(nn.Conv2d):
    """A convolution whose patches do not overlap, computed as one matrix product; it has the convolution's weights.

    Like the convolution, it ignores pixels that do not fill a patch.
    """

    def forward(self, images: Images) -> Float[Tensor, "batch features rows columns"]:
        """Return the embedding of each patch."""
        height, width = self.kernel_size
        rows, columns = images.shape[2] // height, images.shape[3] // width
        whole = images[:, :, : rows * height, : columns * width]
        patches = whole.reshape(*images.shape[:2], rows, height, columns, width).permute(0, 2, 4, 1, 3, 5)
        return F.linear(patches.flatten(3), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


def replace_patch_embedding(trunk: nn.Module) -> None:
    """Replace the convolution of a plain ViT's patches by a `PatchEmbedding` with the same weights."""
    owner: Any
    for owner in trunk.modules():
        name = "conv1" if type(owner) is OpenClipViT else "proj" if type(owner) is PatchEmbed else None
        if name is not None:
            setattr(owner, name, _as_product(getattr(owner, name)))


def _as_product(convolution: nn.Conv2d) -> PatchEmbedding:
    height, width = convolution.kernel_size
    channels, has_bias = (convolution.in_channels, convolution.out_channels), convolution.bias is not None
    with torch.device("meta"):
        product = PatchEmbedding(*channels, (height, width), (height, width), bias=has_bias)
    product.weight, product.bias = convolution.weight, convolution.bias
    return product
