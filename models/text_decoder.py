"""A text decoder that predicts a caption from the patch tokens of its image."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from losses import Scalar
from losses.caption import summed_caption_loss
from models.image_tower import ImageTower
from models.patch_tokens import PatchTokens

HEAD_WIDTH = 64  # of attention
MLP_RATIO = 4  # width of the hidden layer over the width

TextFeatures = Float[Tensor, "captions tokens width"]
AttentionMask = Bool[Tensor, "captions 1 tokens tokens"]  # True: may be attended to


class SelfOrCrossAttention(nn.Module):
    """Attention without biases of tokens to tokens of the same or another sequence."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_heads = max(1, width // HEAD_WIDTH)
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(
        self,
        x: TextFeatures,
        attended: Float[Tensor, "captions _ width"],
        mask: AttentionMask | None = None,
        *,
        is_causal: bool = False,
    ) -> TextFeatures:
        """Return the attention's result for each token of `x`, which attends to the tokens `attended`."""
        key, value = self.key_value(attended).chunk(2, dim=-1)
        heads = F.scaled_dot_product_attention(
            self._split_heads(self.query(x)),
            self._split_heads(key),
            self._split_heads(value),
            attn_mask=mask,
            is_causal=is_causal,
        )
        result: Tensor = self.out(heads.transpose(1, 2).flatten(2))
        return result

    def _split_heads(self, x: Tensor) -> Float[Tensor, "captions heads tokens head_width"]:
        count, tokens, _ = x.shape
        return x.view(count, tokens, self.num_heads, -1).transpose(1, 2)


class DecoderBlock(nn.Module):
    """Self-attention, attention to the patches, and MLP, each after a layer norm and added to its input; no biases."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, bias=False)
        self.self_attention = SelfOrCrossAttention(width)
        self.ln_2 = nn.LayerNorm(width, bias=False)
        self.patch_attention = SelfOrCrossAttention(width)
        self.ln_3 = nn.LayerNorm(width, bias=False)
        self.mlp = nn.Sequential(
            nn.Linear(width, MLP_RATIO * width, bias=False),
            nn.GELU(),
            nn.Linear(MLP_RATIO * width, width, bias=False),
        )

    def forward(
        self, x: TextFeatures, patches: PatchTokens, mask: AttentionMask | None
    ) -> TextFeatures:
        """Return the tokens after the block; without a mask, tokens attend to themselves and earlier ones."""
        normed = self.ln_1(x)
        x = x + self.self_attention(normed, normed, mask, is_causal=mask is None)
        x = x + self.patch_attention(self.ln_2(x), patches)
        output: Tensor = x + self.mlp(self.ln_3(x))
        return output


class TextDecoder(nn.Module):
    """Predict each token of a caption from the image and the tokens before it.

    For a share `parallel_caption_share` of the captions, spread evenly over the batch, all inputs are mask tokens, so
    that every token is predicted from the image alone; the shares are equal on several processes if the batch of each
    is a multiple of the pattern (4 for 0.75). Source: Tschannen et al. 2023 (CapPa, arXiv 2306.07915), section 3;
    google-research/big_vision at 3509c45, `models/proj/cappa/cappa.py`, without its dropout.
    """

    def __init__(
        self,
        width: int,
        num_layers: int,
        vocabulary_size: int,
        context_length: int,
        parallel_caption_share: float,
    ) -> None:
        super().__init__()
        self.parallel_caption_share = parallel_caption_share
        self.grad_checkpointing = False
        self.mask_id = vocabulary_size
        self.embedding = nn.Embedding(vocabulary_size + 1, width)
        self.positions = nn.Parameter(torch.randn(context_length, width) * width**-0.5)
        self.blocks = nn.ModuleList([DecoderBlock(width) for _ in range(num_layers)])
        for parameter in self.blocks.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
        self.ln_final = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary_size)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(
        self,
        patches: PatchTokens,
        groups: tuple[Int[Tensor, "_ _"], ...],
        ends: Int[Tensor, " batch"],
        inverse_permutation: Int[Tensor, " batch"],
    ) -> Scalar:
        """Return the mean loss of the captions; the arguments after the patches are those of `TextTower`.

        A caption's loss is the mean cross-entropy of its tokens, in nats; see `summed_caption_loss`.
        """
        sizes = [len(ids) for ids in groups]
        images = inverse_permutation.argsort()  # of the captions in the order of the groups
        summed_losses = []
        tokens_before = 0
        for ids, rows, end in zip(
            groups, torch.split(images, sizes), torch.split(ends, sizes), strict=True
        ):
            count, width = ids.shape
            starts = tokens_before + width * torch.arange(count, device=ids.device)
            features = self._decode(patches[rows], ids[:, :-1], rows)
            loss = summed_caption_loss(
                features, self.head.weight, self.head.bias, ids[:, 1:], end - starts
            )
            summed_losses.append(loss)
            tokens_before += count * width
        return torch.stack(summed_losses).sum() / len(ends)

    def _decode(
        self,
        patches: PatchTokens,
        inputs: Int[Tensor, "captions tokens"],
        rows: Int[Tensor, " captions"],
    ) -> TextFeatures:
        """Return features of the tokens that follow the inputs, which are of these rows of the batch."""
        num_tokens = inputs.shape[1]
        mask = None
        if self.parallel_caption_share > 0:
            parallel_before = torch.floor(rows * self.parallel_caption_share)
            are_parallel = torch.floor((rows + 1) * self.parallel_caption_share) > parallel_before
            inputs = inputs.masked_fill(are_parallel[:, None], self.mask_id)
            square = torch.ones(num_tokens, num_tokens, dtype=torch.bool, device=inputs.device)
            mask = square.tril() | are_parallel[:, None, None, None]
        x = self.embedding(inputs) + self.positions[:num_tokens]
        for block in self.blocks:
            if self.grad_checkpointing:
                x = checkpoint(block, x, patches, mask, use_reentrant=False)
            else:
                x = block(x, patches, mask)
        features: Tensor = self.ln_final(x)
        return features


class Captioner(nn.Module):
    """Image tower and a text decoder that reads its patch tokens."""

    def __init__(self, tower: ImageTower, decoder: TextDecoder) -> None:
        super().__init__()
        self.tower = tower
        self.decoder = decoder
