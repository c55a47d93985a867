"""The text tower of contrastive methods."""

import copy
from difflib import get_close_matches
from typing import Any

import open_clip
import torch
from jaxtyping import Float, Int
from open_clip.model import _build_text_tower
from open_clip.transformer import TextTransformer
from torch import Tensor, nn

from models.registered import open_clip_config


class TextTower(nn.Module):
    """Token ids to one projected feature a caption, in groups of captions cut to a width of their own.

    Our own forward over the modules of open_clip's text transformer: causal attention makes the tokens behind the
    end token irrelevant, so captions cut to any width that holds them give the same features (open_clip's own forward
    takes the full context only), and only the pooled position needs the final norm. Where padding counts,
    `padded_because` says why, groups must be as wide as the context, and the forward is open_clip's.
    """

    def __init__(self, text: TextTransformer, padded_because: str | None = None) -> None:
        super().__init__()
        self.text = text
        self.padded_because = padded_because
        self.width: int = text.width if text.text_projection is None else text.output_dim

    def forward(
        self, groups: tuple[Int[Tensor, "_ _"], ...], lengths: Int[Tensor, " batch"], places: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch features"]:
        """Embed captions; caption i is row `places[i]` of the groups one after the other.

        `lengths`, in the groups' order, counts a caption's tokens up to and with its end token.
        """
        of_groups = torch.split(lengths, [len(ids) for ids in groups])
        features = [self._embed(ids, ends) for ids, ends in zip(groups, of_groups, strict=True)]
        return torch.cat(features).index_select(0, places)

    def _embed(self, ids: Int[Tensor, "captions tokens"], lengths: Int[Tensor, " captions"]) -> Tensor:
        text = self.text
        if self.padded_because:
            whole: Tensor = text(ids)
            return whole
        tokens = ids.shape[1]
        x = text.token_embedding(ids) + text.positional_embedding[:tokens]
        x = text.transformer(x, attn_mask=text.attn_mask[:tokens, :tokens])
        ends: Tensor = text.ln_final(x[torch.arange(len(ids), device=ids.device), lengths - 1])
        projection = text.text_projection
        if isinstance(projection, nn.Module):
            projected: Tensor = projection(ends)
            return projected
        return ends if projection is None else ends @ projection


def why_padded(name: str) -> str | None:
    """Return why the text tower of an open_clip model must compute its padding, or None: it need not.

    Raises ValueError for an unknown name.
    """
    text = _config(name)["text_cfg"]
    if text.get("no_causal_mask"):
        return f"in {name}'s text tower every token sees those behind it, padding included"
    if text.get("embed_cls"):
        return f"{name}'s text tower pools a class token, which stands behind the padding"
    if (pooling := text.get("pool_type", "argmax")) not in ("argmax", "eos"):
        return f"{name}'s text tower pools {pooling!r} and not the end token"
    return None


def build_text_tower(name: str, context_length: int, vocabulary_size: int, seed: int) -> TextTower:
    """Build the text tower of an open_clip model, randomly initialised from a generator of its own.

    The end token is the last of the vocabulary, 0 pads. Raises ValueError for an unknown name, and for towers of
    another library, whose weights open_clip would fetch.
    """
    config = _config(name)
    text = copy.deepcopy(config["text_cfg"])
    if text.get("hf_model_name"):
        raise ValueError(
            f"the text tower of {name!r} is {text['hf_model_name']}, which open_clip does not build itself"
        )
    text |= {"context_length": context_length, "vocab_size": vocabulary_size, "output_tokens": False}
    text |= {"pad_id": 0, "eos_id": vocabulary_size - 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tower = _build_text_tower(config["embed_dim"], text, config.get("quick_gelu", False))
    return TextTower(tower, why_padded(name))


def _config(name: str) -> dict[str, Any]:
    config = open_clip_config(name)
    if config is None:
        near = get_close_matches(name, open_clip.list_models(), n=1)
        raise ValueError(f"open_clip has no model {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    return config
