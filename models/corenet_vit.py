"""CoreNet's vision transformer, the tower of CatLIP's released weights.

Source: apple/corenet 1aa3acd, `corenet/modeling/models/classification/vit.py` and its parts; the released recipes in
`projects/catlip` use fp32 layer norm and GELU.
"""

import re
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from open_clip.transformer import LayerNormFp32, Transformer
from torch import Tensor, nn

from models import Features, StateDict
from models.open_clip_blocks import replace_blocks_by_image_blocks

PREFIX = "corenet-vit-"  # of the towers' names
SIZES = {
    "tiny": (192, 12),
    "small": (384, 12),
    "base": (768, 12),
    "large": (1024, 24),
    "huge": (1280, 32),
}
HEAD_WIDTH = 64  # of attention, at every size
MLP_RATIO = 4.0  # width of the hidden layer over the width
IMAGE_SIZE = 224  # pixels
POSITIONS = 14 * 14  # with learned embeddings: patches of 16 px
# Names in this module by CoreNet's. Attention that is not "flash" has the same weights under the name `out_proj`.
OUR_NAMES = {
    r"patch_emb\.0\.block\.conv\.": "stem.0.",
    r"patch_emb\.0\.block\.norm\.": "stem.1.",
    r"patch_emb\.1\.block\.conv\.": "stem.3.",
    r"patch_emb\.1\.block\.norm\.": "stem.4.",
    r"patch_emb\.2\.block\.conv\.": "stem.6.",
    r"cls_token$": "class_token",
    r"pos_embed\.pos_embed\.pos_embed$": "positions",
    r"transformer\.(\d+)\.pre_norm_mha\.0\.": r"transformer.resblocks.\1.ln_1.",
    r"transformer\.(\d+)\.pre_norm_mha\.1\.qkv_proj\.": r"transformer.resblocks.\1.attn.in_proj_",
    r"transformer\.(\d+)\.pre_norm_mha\.1\.out_proj(?:_attn)?\.": r"transformer.resblocks.\1.attn.out_proj.",
    r"transformer\.(\d+)\.pre_norm_ffn\.0\.": r"transformer.resblocks.\1.ln_2.",
    r"transformer\.(\d+)\.pre_norm_ffn\.1\.": r"transformer.resblocks.\1.mlp.c_fc.",
    r"transformer\.(\d+)\.pre_norm_ffn\.4\.": r"transformer.resblocks.\1.mlp.c_proj.",
    r"post_transformer_norm\.": "norm.",
}
STEM_WEIGHT = "patch_emb.2.block.conv.weight"  # a file with this name is CoreNet's
CLIP_PREFIX = "image_encoder."  # of the image encoder's weights in a file of CoreNet's CLIP


class CorenetViT(nn.Module):
    """A stem of three convolutions, pre-norm blocks, and the class token after the final norm.

    The convolutions have strides 4, 2 and 2; all but the last are followed by batch norm and GELU. Images may have any
    size, with pixels from 0 to 1. The class token has no position embedding. For other than 196 patches the embeddings
    are interpolated in each forward as in CoreNet: along the sequence of patches, row by row, and not over the grid.
    Blocks are open_clip's; the last computes only the class token unless `compute_all_tokens_in_last_block` is called.
    """

    patch_size = (16, 16)  # pixels

    def __init__(self, width: int, num_layers: int) -> None:
        super().__init__()
        stem = max(32, width // 4)
        self.stem = nn.Sequential(
            nn.Conv2d(3, stem, 4, stride=4, padding=1, bias=False),
            nn.BatchNorm2d(stem),
            nn.GELU(),
            nn.Conv2d(stem, stem, 2, stride=2, bias=False),
            nn.BatchNorm2d(stem),
            nn.GELU(),
            nn.Conv2d(stem, width, 2, stride=2),
        )
        self.class_token = nn.Parameter(torch.empty(width))
        self.positions = nn.Parameter(torch.empty(POSITIONS, width))
        norm = partial(LayerNormFp32, eps=1e-6)
        heads = width // HEAD_WIDTH
        self.transformer = Transformer(width, num_layers, heads, MLP_RATIO, norm_layer=norm)
        self.norm = norm(width)
        self._initialise()
        replace_blocks_by_image_blocks(self.transformer, class_token_only=True)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Features:
        """Return the class token."""
        token: Tensor = self.norm(self.compute_tokens(images)[:, 0])
        return token

    def compute_tokens(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch tokens features"]:
        """Return the tokens after the last block, before the norm, the class token first."""
        patches = self.stem(images).flatten(2).transpose(1, 2)
        positions = self.resample_positions(patches.shape[1])
        patches = patches + positions.to(patches.dtype)
        class_tokens = self.class_token.expand(len(patches), 1, -1)
        tokens = torch.cat([class_tokens, patches], dim=1)
        all_tokens: Tensor = self.transformer(tokens)
        return all_tokens

    def resample_positions(self, num_patches: int) -> Float[Tensor, "{num_patches} width"]:
        """Return the position embeddings for this number of patches."""
        if num_patches == POSITIONS:
            return self.positions
        size = (num_patches, self.positions.shape[1])
        image = self.positions[None, None]
        return F.interpolate(image, size, mode="bilinear")[0, 0]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Enable activation checkpointing of blocks; the name is open_clip's."""
        self.transformer.grad_checkpointing = enable

    def _initialise(self) -> None:
        """Initialise weights by the released recipes: `model.layer` of `projects/catlip/pretraining/vit_base.yaml`."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
            elif isinstance(module, nn.MultiheadAttention):
                nn.init.trunc_normal_(module.in_proj_weight, std=0.02)
                nn.init.zeros_(module.in_proj_bias)
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.class_token, std=0.02)
        width = self.positions.shape[1]
        nn.init.trunc_normal_(self.positions, std=width**-0.5)


def build_corenet_vit(name: str) -> CorenetViT:
    """Build a tower by its name, such as `corenet-vit-base`; the ValueError lists the names."""
    size = name.removeprefix(PREFIX)
    if size not in SIZES:
        raise ValueError(f"no tower named {name!r}; CoreNet's sizes are {', '.join(SIZES)}")
    return CorenetViT(*SIZES[size])


def infer_corenet_tower_name(state: StateDict) -> str | None:
    """Return the name of the tower that has these weights, such as `corenet-vit-base`; None for other weights."""
    if STEM_WEIGHT not in state:
        return None
    width = state[STEM_WEIGHT].shape[0]
    block_names = [name for name in state if name.startswith("transformer.")]
    num_blocks = len({name.split(".")[1] for name in block_names})
    for size, width_and_layers in SIZES.items():
        if width_and_layers == (width, num_blocks):
            return PREFIX + size
    return None


def convert_corenet_weights(state: StateDict) -> dict[str, Tensor]:
    """Return CoreNet's weights under the names of `CorenetViT`, without its classifier and its RangeAugment.

    Weights that have no name here keep their own.
    """
    weights = {}
    for name, value in state.items():
        if not name.startswith(("classifier.", "neural_augmentor.")):
            weights[convert_corenet_weight_name(name)] = value
    # CoreNet has leading dimensions of 1.
    if "class_token" in weights:
        weights["class_token"] = weights["class_token"].flatten()
    if "positions" in weights:
        weights["positions"] = weights["positions"].flatten(0, -2)
    return weights


def convert_corenet_weight_name(corenet_name: str) -> str:
    """Return the name here of a weight of CoreNet's vision transformer, or of a block of its text transformer."""
    for theirs, ours in OUR_NAMES.items():
        if re.match(theirs, corenet_name):
            return re.sub(theirs, ours, corenet_name, count=1)
    return corenet_name
