"""The patch embedding of vision transformers as a linear layer."""

from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from open_clip.transformer import VisionTransformer as OpenClipViT
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn

from models import Images


class LinearPatchEmbedding(nn.Conv2d):
    """A convolution of patches that do not overlap, computed as one matrix product.

    It has the convolution's weights. Like the convolution, it ignores pixels that do not fill a patch.
    """

    def forward(self, images: Images) -> Float[Tensor, "batch features rows columns"]:
        """Return the embedding of each patch."""
        height, width = self.kernel_size
        batch, channels, image_height, image_width = images.shape
        rows = image_height // height
        columns = image_width // width
        covered_height = rows * height
        covered_width = columns * width
        covered = images[:, :, :covered_height, :covered_width]
        cut = covered.reshape(batch, channels, rows, height, columns, width)
        patches = cut.permute(0, 2, 4, 1, 3, 5).flatten(3)
        weight = self.weight.flatten(1)
        embedded = F.linear(patches, weight, self.bias)
        return embedded.permute(0, 3, 1, 2)


def use_linear_patch_embedding(trunk: nn.Module) -> None:
    """Let the vision transformers of open_clip and timm in a trunk compute their patch embedding as a linear layer."""
    module: Any
    for module in trunk.modules():
        if type(module) is OpenClipViT:
            module.conv1.__class__ = LinearPatchEmbedding
        elif type(module) is PatchEmbed:
            module.proj.__class__ = LinearPatchEmbedding
