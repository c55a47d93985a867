"""The last block of a vision transformer, for the class token alone."""

from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn


class ClassTokenBlock(nn.Module):
    """A block of open_clip's that computes the first token alone, from all of them.

    Behind the last block only the class token is read, so that the others' queries, output projection and MLP can be
    left out: five sixths of the block's products, a fourteenth of a forward of ViT-B. What the class token becomes, and
    every gradient, is the same. The parts and their names are the block's.
    """

    def __init__(self, block: ResidualAttentionBlock) -> None:
        super().__init__()
        self.ln_1, self.attn, self.ls_1 = block.ln_1, block.attn, block.ls_1
        self.ln_2, self.mlp, self.ls_2 = block.ln_2, block.mlp, block.ls_2

    def forward(self, x: Float[Tensor, "batch tokens dim"], *_: Any, **__: Any) -> Float[Tensor, "batch 1 dim"]:
        """Return the class token behind the block; open_clip also hands over keys, values and a mask, all None."""
        first = x[:, :1] + self.ls_1(self._attention(self.ln_1(x)))
        behind: Tensor = first + self.ls_2(self.mlp(self.ln_2(first)))
        return behind

    def _attention(self, x: Tensor) -> Tensor:
        weight, bias, width = self.attn.in_proj_weight, self.attn.in_proj_bias, x.shape[2]
        query = F.linear(x[:, :1], weight[:width], bias[:width])
        keys_and_values = F.linear(x, weight[width:], bias[width:])
        query, key, value = (
            part.view(len(x), -1, self.attn.num_heads, self.attn.head_dim).transpose(1, 2)
            for part in (query, *keys_and_values.chunk(2, dim=2))
        )
        found = F.scaled_dot_product_attention(query, key, value)
        mixed: Tensor = self.attn.out_proj(found.transpose(1, 2).flatten(2))
        return mixed


def read_class_token_only(trunk: VisionTransformer) -> None:
    """Put one in place of the last block, where nothing behind it reads another token."""
    blocks = trunk.transformer.resblocks
    if trunk.pool_type == "tok" and trunk.attn_pool is None and type(blocks[-1]) is ResidualAttentionBlock:
        blocks[-1] = ClassTokenBlock(blocks[-1])
