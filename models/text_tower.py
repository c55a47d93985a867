"""The text tower of contrastive methods."""

import copy
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from open_clip.model import _build_text_tower
from open_clip.transformer import TextTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models import find_open_clip_config, format_similar_names
from models.open_clip_blocks import OpenClipBlock

TokenFeatures = Float[Tensor, "tokens dim"]  # of all groups
GroupShapes = list[tuple[int, int]]  # of each group: number of rows, and their width in tokens
Mask = Bool[Tensor, "rows 1 width width"]
EndTokenFeatures = Float[Tensor, "captions dim"]
EndIndices = Int[Tensor, " captions"]  # places of the captions' end tokens among all


class PackedBlock(OpenClipBlock):
    """An open_clip block for the concatenated tokens of all groups.

    Token-wise layers are applied to all tokens together, causal attention to one group at a time. A row is one caption,
    or with `mask` several.
    """

    def forward(
        self, x: TokenFeatures, shapes: GroupShapes, mask: Mask | None, _ends: EndIndices
    ) -> TokenFeatures:
        """Return all tokens after the block."""
        projected = self.project_qkv(self.ln_1(x))
        attended = []
        for group, shape in zip(_split_by_group(projected, shapes), shapes, strict=True):
            query, key, value = self.split_heads(group, *shape)
            attention = F.scaled_dot_product_attention(
                query, key, value, attn_mask=mask, is_causal=mask is None
            )
            tokens_first = attention.transpose(1, 2)
            attended.append(tokens_first.reshape(len(group), -1))
        return self.add_attention_and_mlp(x, torch.cat(attended))


class EndTokenBlock(PackedBlock):
    """The last block, which computes only each caption's end token; no other token is used after it."""

    def forward(
        self, x: TokenFeatures, shapes: GroupShapes, mask: Mask | None, ends: EndIndices
    ) -> EndTokenFeatures:
        """Return the end tokens after the block."""
        normed = self.ln_1(x)
        dim = x.shape[1]
        queries = self.project_qkv(normed.index_select(0, ends), slice(dim))
        keys_and_values = self.project_qkv(normed, slice(dim, None))
        if mask is None:
            attended = self._attend_within_rows(queries, keys_and_values, shapes, ends)
        else:
            # Rows have different numbers of captions. The other tokens have queries of 0, whose results are dropped.
            (shape,) = shapes
            all_queries = queries.new_zeros(x.shape).index_copy(0, ends, queries)
            (query,) = self.split_heads(all_queries, *shape)
            key, value = self.split_heads(keys_and_values, *shape)
            attention = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            attended = attention.transpose(1, 2).reshape(x.shape).index_select(0, ends)
        return self.add_attention_and_mlp(x.index_select(0, ends), attended)

    def _attend_within_rows(
        self,
        queries: EndTokenFeatures,
        keys_and_values: Tensor,
        shapes: GroupShapes,
        ends: EndIndices,
    ) -> EndTokenFeatures:
        """Return attention's result for the end tokens, if each row of a group has one caption."""
        counts = [count for count, _ in shapes]
        attended = []
        before = 0  # tokens of the groups before
        for group_queries, group_keys_and_values, group_ends, (count, width) in zip(
            torch.split(queries, counts),
            _split_by_group(keys_and_values, shapes),
            torch.split(ends, counts),
            shapes,
            strict=True,
        ):
            (query,) = self.split_heads(group_queries, count, 1)
            key, value = self.split_heads(group_keys_and_values, count, width)
            end_columns = (group_ends - before) % width
            columns = torch.arange(width, device=ends.device)
            not_after_end = columns <= end_columns.view(count, 1, 1, 1)
            attention = F.scaled_dot_product_attention(query, key, value, attn_mask=not_after_end)
            attended.append(attention.reshape(count, -1))
            before += count * width
        return torch.cat(attended)


class TextTower(nn.Module):
    """Map token ids to one projected feature per caption; each group of rows has its own width in tokens.

    The forward is our own, over the modules of open_clip's text transformer. Under causal attention tokens after the
    end token have no effect, so that captions padded to any sufficient width, or packed into rows, give the same
    features (open_clip's own forward accepts only the full context). The last block and the final norm are computed
    only for the end tokens. If padding has an effect, for the reason in `padding_reason`, groups must have the full
    context, and the forward is open_clip's.
    """

    def __init__(self, text: TextTransformer, padding_reason: str | None = None) -> None:
        super().__init__()
        self.text = text
        self.padding_reason = padding_reason
        if not padding_reason:
            *blocks, last = text.transformer.resblocks
            packed_blocks = [PackedBlock(block) for block in blocks]
            text.transformer.resblocks = nn.ModuleList([*packed_blocks, EndTokenBlock(last)])
        self.width: int = text.width if text.text_projection is None else text.output_dim

    def forward(
        self,
        groups: tuple[Int[Tensor, "_ _"], ...],
        ends: Int[Tensor, " batch"],
        inverse_permutation: Int[Tensor, " batch"],
        positions: Int[Tensor, "rows width"] | None = None,
    ) -> Float[Tensor, "batch features"]:
        """Embed captions; caption i is number `inverse_permutation[i]` in the order of the groups and of `ends`.

        `ends` are the places of the captions' end tokens in the concatenated groups. Without `positions`, each row of a
        group is one caption. With them there is one group, whose rows hold several captions one after the other, and
        each caption attends to itself alone. They give the place of each token in its caption; padding has position 0.
        """
        text = self.text
        if self.padding_reason:
            in_order: Tensor = text(torch.cat(groups))
            return in_order.index_select(0, inverse_permutation)
        mask = None
        shapes = [(ids.shape[0], ids.shape[1]) for ids in groups]
        all_ids = torch.cat([ids.flatten() for ids in groups])
        embedding = text.positional_embedding
        if positions is None:
            by_group = [embedding[:width].repeat(count, 1) for count, width in shapes]
            embedded = torch.cat(by_group)
        else:
            embedded = F.embedding(positions.flatten(), embedding)
            place = torch.arange(positions.shape[1], device=positions.device)
            distance = place[:, None] - place
            in_caption = distance <= positions[:, :, None]
            mask = ((distance >= 0) & in_caption)[:, None]
        x = text.token_embedding(all_ids) + embedded
        for block in text.transformer.resblocks:
            if text.transformer.grad_checkpointing:
                x = checkpoint(block, x, shapes, mask, ends, use_reentrant=False)
            else:
                x = block(x, shapes, mask, ends)
        features: Tensor = text.ln_final(x.index_select(0, inverse_permutation))
        projection = text.text_projection
        if isinstance(projection, nn.Module):
            features = projection(features)
        elif projection is not None:
            features = features @ projection
        return features


def _split_by_group(x: Tensor, shapes: GroupShapes) -> tuple[Tensor, ...]:
    """Split the concatenated tokens of all groups into the tokens of each group."""
    token_counts = [count * width for count, width in shapes]
    return torch.split(x, token_counts)


def reason_padding_affects_features(name: str) -> str | None:
    """Return why padding affects the features of an open_clip model's text tower; None if it does not.

    Raises ValueError for an unknown name.
    """
    text = _get_open_clip_config(name)["text_cfg"]
    pools_end_token = text.get("pool_type", "argmax") in ("argmax", "eos")
    is_causal = not (text.get("no_causal_mask") or text.get("embed_cls"))
    if pools_end_token and is_causal:
        return None
    return f"{name}'s text tower reads tokens after the end token"


def build_text_tower(name: str, context_length: int, vocabulary_size: int, seed: int) -> TextTower:
    """Build the text tower of an open_clip model, randomly initialised from a new generator of `seed`.

    Raises ValueError for an unknown name, and for towers of another library, whose weights open_clip would download.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tower = build_open_clip_text_tower(name, context_length, vocabulary_size)
    return TextTower(tower, reason_padding_affects_features(name))


def build_open_clip_text_tower(
    name: str, context_length: int, vocabulary_size: int
) -> TextTransformer:
    """Build open_clip's text transformer, which computes every token of every caption.

    The end token is the last id of the vocabulary, padding is 0. Raises ValueError as `build_text_tower` does.
    """
    config = _get_open_clip_config(name)
    text = copy.deepcopy(config["text_cfg"])
    if text.get("hf_model_name"):
        raise ValueError(
            f"the text tower of {name!r} is {text['hf_model_name']}, which open_clip does not build itself"
        )
    text |= {
        "context_length": context_length,
        "vocab_size": vocabulary_size,
        "output_tokens": False,
        "pad_id": 0,
        "eos_id": vocabulary_size - 1,
    }
    return _build_text_tower(config["embed_dim"], text, config.get("quick_gelu", False))


def get_text_feature_width(name: str, context_length: int) -> int:
    """Return the length of the features of an open_clip model's text tower; ValueError as in `build_text_tower`."""
    with torch.device("meta"):
        return build_text_tower(name, context_length, 2, 0).width


def _get_open_clip_config(name: str) -> dict[str, Any]:
    """Return the configuration of an open_clip model; the ValueError suggests similar names."""
    config = find_open_clip_config(name)
    if config is None:
        suggestion = format_similar_names(name, open_clip.list_models())
        raise ValueError(f"open_clip has no model {name!r}{suggestion}")
    return config
