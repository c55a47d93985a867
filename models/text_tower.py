"""The text tower of contrastive methods."""

import copy
from difflib import get_close_matches

import open_clip
import torch
from jaxtyping import Float, Int
from open_clip.model import _build_text_tower
from open_clip.transformer import TextTransformer
from torch import Tensor, nn

from models.registered import open_clip_config


class TextTower(nn.Module):
    """Token ids to one projected feature a caption, for batches cut to any length.

    Our own forward over the modules of open_clip's text transformer: causal attention makes the tokens behind the
    end token irrelevant, so a batch cut to its longest caption gives the same features (open_clip's own forward takes
    the full context only), and only the pooled position needs the final norm.
    """

    def __init__(self, text: TextTransformer) -> None:
        super().__init__()
        self.text = text
        self.width: int = text.output_dim

    def forward(
        self, ids: Int[Tensor, "batch tokens"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch features"]:
        """Embed captions; `lengths` counts each one's tokens up to and with its end token."""
        text = self.text
        tokens = ids.shape[1]
        x = text.token_embedding(ids) + text.positional_embedding[:tokens]
        x = text.transformer(x, attn_mask=text.attn_mask[:tokens, :tokens])
        ends = x[torch.arange(len(ids), device=ids.device), lengths - 1]
        features: Tensor = text.ln_final(ends) @ text.text_projection
        return features


def build_text_tower(name: str, context_length: int, vocabulary_size: int, seed: int) -> TextTower:
    """Build the text tower of an open_clip model, randomly initialised from a generator of its own.

    Raises ValueError for an unknown name, and for towers that are not causal with the end token pooled: those need
    their padding, and a comparison that pads one method's captions only would not be fair.
    """
    config = open_clip_config(name)
    if config is None:
        near = get_close_matches(name, open_clip.list_models(), n=1)
        raise ValueError(f"open_clip has no model {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    text = copy.deepcopy(config["text_cfg"])
    pooling = text.get("pool_type", "argmax")
    if text.get("hf_model_name") or text.get("no_causal_mask") or text.get("embed_cls") or pooling != "argmax":
        raise ValueError(f"the text tower of {name!r} is not a causal transformer pooled at its end token")
    text |= {"context_length": context_length, "vocab_size": vocabulary_size}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TextTower(_build_text_tower(config["embed_dim"], text))
