"""A block of open_clip's, its attention opened up."""

import torch.nn.functional as F
from jaxtyping import Float
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn


class OpenedBlock(nn.Module):
    """The parts of a block of open_clip's under their names, and what a forward of our own is made of."""

    def __init__(self, block: ResidualAttentionBlock) -> None:
        super().__init__()
        self.ln_1, self.attn, self.ls_1 = block.ln_1, block.attn, block.ls_1
        self.ln_2, self.mlp, self.ls_2 = block.ln_2, block.mlp, block.ls_2

    def projected(self, x: Float[Tensor, "*tokens dim"], rows: slice = slice(None)) -> Float[Tensor, "*tokens _"]:
        """Return queries, keys and values of tokens, or what of them some rows of the weight give."""
        return F.linear(x, self.attn.in_proj_weight[rows], self.attn.in_proj_bias[rows])

    def heads(self, projected: Tensor, count: int, width: int) -> Tensor:
        """Return the same of `count` rows of `width` tokens, each as rows x heads x tokens x dim."""
        split = projected.view(count, width, -1, self.attn.num_heads, self.attn.head_dim)
        return split.permute(2, 0, 3, 1, 4)

    def behind(
        self, x: Float[Tensor, "*tokens dim"], seen: Float[Tensor, "*tokens dim"]
    ) -> Float[Tensor, "*tokens dim"]:
        """Do what follows attention."""
        x = x + self.ls_1(self.attn.out_proj(seen))
        last: Tensor = x + self.ls_2(self.mlp(self.ln_2(x)))
        return last
