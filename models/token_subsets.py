"""The tokens of vision transformers: those that are computed in the last block and in training, and their pooling."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from open_clip.transformer import ResidualAttentionBlock, Transformer
from open_clip.transformer import VisionTransformer as OpenClipViT
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import Tensor, nn

from models import Features, Images

Pooling = Literal["own", "mean", "both"]


class UnpackedBlock(nn.Module):
    """The modules of an open_clip block under their names, and the steps of its forward."""

    def __init__(self, block: ResidualAttentionBlock) -> None:
        super().__init__()
        self.ln_1, self.attn, self.ls_1 = block.ln_1, block.attn, block.ls_1
        self.ln_2, self.mlp, self.ls_2 = block.ln_2, block.mlp, block.ls_2

    def project_qkv(self, x: Float[Tensor, "*tokens dim"], rows: slice = slice(None)) -> Float[Tensor, "*tokens _"]:
        """Return queries, keys and values of tokens, or those of some rows of the weight."""
        return F.linear(x, self.attn.in_proj_weight[rows], self.attn.in_proj_bias[rows])

    def split_heads(self, projected: Tensor, count: int, width: int) -> Tensor:
        """Split projections of `count` rows of `width` tokens, each into rows x heads x tokens x dim."""
        split = projected.view(count, width, -1, self.attn.num_heads, self.attn.head_dim)
        return split.permute(2, 0, 3, 1, 4)

    def after_attention(
        self, x: Float[Tensor, "*tokens dim"], attended: Float[Tensor, "*tokens dim"]
    ) -> Float[Tensor, "*tokens dim"]:
        """Return the output of the block for attention's result `attended`."""
        x = x + self.ls_1(self.attn.out_proj(attended))
        last: Tensor = x + self.ls_2(self.mlp(self.ln_2(x)))
        return last


class ImageBlock(UnpackedBlock):
    """An open_clip block of an image tower without the copies of `nn.MultiheadAttention`.

    That module copies queries, keys and values, and attention's result, to be contiguous. Here they are views.
    """

    def forward(self, x: Float[Tensor, "batch tokens dim"], *_: Any, **__: Any) -> Float[Tensor, "batch _ dim"]:
        """Return the tokens after the block; open_clip also passes keys, values and a mask, all None."""
        query, key, value = self.split_heads(self.project_qkv(self.ln_1(x)), *x.shape[:2])
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.after_attention(x, attended.transpose(1, 2).flatten(2))


class ClassTokenBlock(ImageBlock):
    """An open_clip block that computes only the first token, from all tokens.

    After the last block only the class token is used, so that the other tokens' queries, output projection and MLP can
    be left out: 5/6 of the block's FLOPs, 1/14 of a forward of ViT-B. The class token and all gradients are the same.
    """

    def forward(self, x: Float[Tensor, "batch tokens dim"], *_: Any, **__: Any) -> Float[Tensor, "batch 1 dim"]:
        """Return the class token after the block."""
        normed, (count, tokens, dim) = self.ln_1(x), x.shape
        (query,) = self.split_heads(self.project_qkv(normed[:, :1], slice(dim)), count, 1)
        key, value = self.split_heads(self.project_qkv(normed, slice(dim, None)), count, tokens)
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.after_attention(x[:, :1], attended.transpose(1, 2).flatten(2))

    def forward_all_tokens(
        self, x: Float[Tensor, "batch tokens dim"], *_: Any, **__: Any
    ) -> Float[Tensor, "batch tokens dim"]:
        """Return all tokens after the block."""
        return super().forward(x)


def uses_class_token_only(trunk: OpenClipViT) -> bool:
    """Return whether no token but the class token is used after the last block."""
    return trunk.pool_type == "tok" and trunk.attn_pool is None


def replace_image_blocks(transformer: Transformer, *, class_token_only: bool) -> None:
    """Replace the usual blocks of an open_clip transformer by an `ImageBlock`, or the last by a `ClassTokenBlock`."""
    blocks = transformer.resblocks
    for index, block in enumerate(blocks):
        if type(block) is ResidualAttentionBlock:
            is_last = index == len(blocks) - 1
            blocks[index] = ClassTokenBlock(block) if is_last and class_token_only else ImageBlock(block)


class PatchDrop(nn.Module):
    """In training, keep a random part of each image's patches, in their order, and all tokens before them.

    Source: Li et al. 2023, "Scaling language-image pre-training via masking" (FLIP, arXiv 2212.00794), section 3.
    """

    def __init__(self, share: float, prefix_tokens: int) -> None:
        super().__init__()
        self.share = share
        self.prefix_tokens = prefix_tokens

    def forward(self, x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch kept width"]:
        """Drop `share` of the patches; at least one patch remains."""
        if not self.training:
            return x
        first = self.prefix_tokens
        patches = x.shape[1] - first
        kept = max(1, int(patches * (1 - self.share)))
        drawn = torch.rand(len(x), patches, device=x.device).topk(kept, sorted=False).indices.sort().values
        some = x[:, first:].gather(1, drawn[..., None].expand(-1, -1, x.shape[2]))
        return torch.cat([x[:, :first], some], dim=1)


def add_patch_drop(trunk: nn.Module, share: float) -> None:
    """Let a vision transformer drop a share of its patches in training; ValueError for a trunk that cannot.

    The stem must be one convolution whose patches do not overlap. A deeper stem would compute the dropped patches, and
    mix them into their neighbours.
    """
    transformer: Any = getattr(trunk, "trunk", trunk)  # open_clip wraps timm models
    kind = type(transformer)
    convolutions = [module for module in trunk.modules() if isinstance(module, nn.Conv2d)]
    if len(convolutions) != 1 or convolutions[0].kernel_size != convolutions[0].stride:
        raise ValueError(
            f"patches cannot be dropped from a {kind.__name__} with a convolutional stem: "
            "the stem computes dropped patches and mixes them into their neighbours"
        )
    if kind is OpenClipViT:
        transformer.patch_dropout = PatchDrop(share, prefix_tokens=1)
    elif kind is TimmViT:
        transformer.patch_drop = PatchDrop(share, transformer.num_prefix_tokens)
    else:
        raise ValueError(f"patches cannot be dropped from a {kind.__name__}: it is no plain vision transformer")


def set_pooling(trunk: nn.Module, name: str, pooling: Pooling) -> None:
    """Let a vision transformer return the mean of its patch tokens after the last norm instead of its class token.

    With "both" it still returns the class token, and `feature_and_patch_mean` returns both. The class token is not in
    the mean. Weights keep their names and values. ValueError for a trunk that pools something else than a class token.
    Source: x-cls/superclass at 90b761f, `opencls/open_clip/transformer.py`, `VisionTransformer` of `pool_type` "avg".
    """
    vit: Any = trunk
    if type(vit) is OpenClipViT and vit.pool_type == "tok" and vit.attn_pool is None:
        vit.pool_type = "avg" if pooling == "mean" else "tok"
    elif type(vit) is TimmViT and vit.global_pool == "token":
        vit.global_pool = "avg" if pooling == "mean" else "token"
    else:
        raise ValueError(
            f"pooling={pooling} needs a vision transformer of open_clip or timm with a class token, "
            f"which tower {name!r} is not: choose another tower, or set pooling=own"
        )


def feature_and_patch_mean(trunk: nn.Module, images: Images) -> tuple[Features, Features]:
    """Return the trunk's feature, and the mean of its patch tokens after the last norm; the trunk computes all tokens.

    Source: hustvl/SuperCLIP at fb59c6d, `SuperCLIP.encode_image_train` of `superclip/open_clip/superclip_model.py`.
    """
    vit: Any = trunk
    if isinstance(vit, TimmViT):
        tokens = vit.forward_features(images)
        return vit.forward_head(tokens), tokens[:, vit.num_prefix_tokens :].mean(dim=1)
    feature, patches = vit._pool(vit.transformer(vit._embeds(images)))  # noqa: SLF001 - without `output_tokens`
    return feature, patches.mean(dim=1)
