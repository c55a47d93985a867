"""Convert a pair of image and text tower to the layout of open_clip's own models."""

import copy

import open_clip
from torch import Tensor, nn

from models import open_clip_config
from models.heads import DualEncoder

# The same parameters under other names.
OUR_NAMES = {"projection": "visual.proj", "log_scale": "logit_scale", "bias": "logit_bias"}
OUR_FOLDERS = {"tower.trunk.": "visual.", "text.text.": ""}


def open_clip_state(pair: DualEncoder) -> dict[str, Tensor]:
    """Return the weights under the names of `open_clip.CLIP`, which has no module around the text transformer.

    A classifier beside the pair is left out. Source: open_clip 3.3.0, `open_clip/model.py`, class CLIP.
    """
    own = {name: value for name, value in pair.state_dict().items() if not name.startswith(("head.", "counts."))}
    return {_their_name(name): value for name, value in own.items()}


def open_clip_model(name: str, image_size: int, context_length: int, vocabulary_size: int, *, bias: bool) -> nn.Module:
    """Build open_clip's own model by its name, at these sizes; with a bias of the logits it is a SigLIP model."""
    config = copy.deepcopy(open_clip_config(name))
    assert config is not None, f"open_clip has no model {name!r}"
    config["vision_cfg"]["image_size"] = image_size
    config["text_cfg"] |= {"context_length": context_length, "vocab_size": vocabulary_size}
    sizes = (config["embed_dim"], config["vision_cfg"], config["text_cfg"])
    options = {"quick_gelu": config.get("quick_gelu", False), "output_dict": True}
    model: nn.Module = open_clip.CLIP(*sizes, **options, init_logit_bias=-10.0 if bias else None)
    return model


def _their_name(name: str) -> str:
    if name in OUR_NAMES:
        return OUR_NAMES[name]
    folder = next(folder for folder in OUR_FOLDERS if name.startswith(folder))
    return OUR_FOLDERS[folder] + name.removeprefix(folder)
