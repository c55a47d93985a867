"""Export of trained towers to the layouts of open_clip and timm."""

import copy
import json
from pathlib import Path
from typing import Any

import msgspec
import open_clip
import torch
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from timm.models import get_model_args, get_model_input_config
from torch import Tensor

from bench.console.console import PROGRAM
from bench.environment.files import atomic_write
from bench.towers.head_file import TextEncoder, save_weights
from bench.towers.provenance import TowerProvenance
from bench.towers.tower_from import LoadedTower
from models import StateDict, find_open_clip_config
from models.heads import to_open_clip_state, to_open_clip_visual_state
from models.image_tower import PIXEL_CHANNELS, PIXEL_STATISTICS

ALL_IDS = 49_408  # of open_clip's tokenizer
LoadingCode = str  # a line of Python that loads an exported tower
NO_TEXT = {"context_length": 77, "vocab_size": ALL_IDS, "width": 8, "heads": 1, "layers": 1}


def export_tower(loaded: LoadedTower, out_folder: Path) -> LoadingCode:
    """Write a tower that was trained here to a folder, and return the line of Python that loads it.

    A tower with its text tower becomes a model of open_clip, for open_clip's own tokenizer. A tower alone becomes a
    model whose projection is the identity, so that `encode_image` returns the tower's features; its small text tower is
    untrained. A timm tower becomes a folder of timm. ValueError for a tower that neither library builds.
    """
    if loaded.provenance is None:
        raise ValueError(
            f"{loaded.name} was not trained here: export accepts the towers of `{PROGRAM} train`"
        )
    trunk = loaded.tower.trunk
    made = msgspec.to_builtins(loaded.provenance)
    if isinstance(trunk, VisionTransformer | TimmModel) and loaded.tower.channels == PIXEL_CHANNELS:
        image_config = _make_open_clip_image_config(loaded)
        texts = loaded.read_text_encoder()
        if texts is None:
            model_config, weights = _make_open_clip_config_and_weights_with_untrained_text(
                loaded, image_config
            )
        else:
            model_config, weights = _make_open_clip_config_and_weights_with_trained_text(
                loaded, image_config, texts
            )
        preprocessing = _make_preprocessing_config(loaded.provenance)
        preprocessing["resize_mode"] = "shortest"
        config = {"model_cfg": model_config, "preprocess_cfg": preprocessing, "made": made}
        _write_weights_and_config(
            out_folder, "open_clip_model.safetensors", weights, "open_clip_config.json", config
        )
        return f"open_clip.create_model({f'local-dir:{out_folder}'!r})"
    if type(trunk).__module__.startswith("timm."):
        config = _make_timm_config(loaded)
        config["pretrained_cfg"] |= _make_preprocessing_config(loaded.provenance)
        config["made"] = made
        _write_weights_and_config(
            out_folder, "model.safetensors", trunk.state_dict(), "config.json", config
        )
        return f"timm.create_model({f'local-dir:{out_folder}'!r}, pretrained=True)"
    raise ValueError(
        f"{loaded.name} has a {type(trunk).__name__}, which is not exported: train a tower of timm by its name"
    )


def _make_open_clip_image_config(loaded: LoadedTower) -> dict[str, Any]:
    """Return open_clip's configuration of the tower, without a text tower."""
    config = find_open_clip_config(loaded.architecture)
    assert config is not None
    trunk = loaded.tower.trunk
    vision = copy.deepcopy(config["vision_cfg"]) | {"image_size": loaded.tower.image_size}
    if isinstance(trunk, TimmModel):
        vision |= {
            "timm_pool": get_model_args(trunk.trunk)["global_pool"],
            "timm_proj": "linear",
            "timm_proj_bias": False,
            "timm_model_pretrained": False,
        }
    else:
        vision |= {"pool_type": trunk.pool_type, "output_tokens": False}
    return {"vision_cfg": vision, "quick_gelu": config.get("quick_gelu", False)}


def _make_open_clip_config_and_weights_with_trained_text(
    loaded: LoadedTower, image_config: dict[str, Any], texts: TextEncoder
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return open_clip's configuration and weights of a tower with its text tower, for open_clip's own tokenizer."""
    assert loaded.provenance is not None
    pair = texts.pair
    text_tower = loaded.provenance.experiment.text.text_tower
    config = find_open_clip_config(text_tower)
    assert config is not None
    reason = pair.text.padding_reason
    if not reason and config.get("quick_gelu", False) != image_config["quick_gelu"]:
        reason = f"{text_tower} has a different GELU from {loaded.architecture}"
    if reason:
        raise ValueError(f"{loaded.name} is not exported: {reason}")
    sizes = {"context_length": texts.context_length, "vocab_size": ALL_IDS}
    text_config = config["text_cfg"] | sizes
    model_config = image_config | {"embed_dim": pair.text.width, "text_cfg": text_config}
    if pair.bias is not None:
        model_config["init_logit_bias"] = 0.0  # makes open_clip build a bias; its value is loaded
    weights = to_open_clip_state(pair)
    rows = weights["token_embedding.weight"]
    row_by_id = torch.from_numpy(texts.subwords.id_map)  # below 0: outside the vocabulary
    in_vocabulary = row_by_id >= 0
    table = rows.new_zeros(len(row_by_id), rows.shape[1])
    table[in_vocabulary] = rows[row_by_id[in_vocabulary]]
    weights["token_embedding.weight"] = table
    return model_config, weights


def _make_open_clip_config_and_weights_with_untrained_text(
    loaded: LoadedTower, image_config: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return open_clip's configuration and weights of a tower with an untrained text tower."""
    width = loaded.tower.width
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = open_clip.CLIP(width, image_config["vision_cfg"], NO_TEXT).state_dict()
    weights |= to_open_clip_visual_state(loaded.tower, torch.eye(width))
    return image_config | {"embed_dim": width, "text_cfg": NO_TEXT}, weights


def _make_timm_config(loaded: LoadedTower) -> dict[str, Any]:
    """Return the content of timm's config.json beside weights: `timm/models/_hub.py`, `save_config_for_hf`."""
    trunk = loaded.tower.trunk
    side = loaded.tower.image_size
    return {
        "architecture": loaded.architecture,
        "num_classes": 0,
        "num_features": loaded.tower.width,
        "pretrained_cfg": {
            "input_size": (loaded.tower.channels, side, side),
            "num_classes": 0,
            "fixed_input_size": get_model_input_config(trunk)["fixed_input_size"],
            "crop_pct": 1.0,
            "crop_mode": "center",
        },
        "model_args": get_model_args(trunk),
    }


def _make_preprocessing_config(provenance: TowerProvenance) -> dict[str, Any]:
    """Return the mean, deviation and interpolation that both libraries prepare a tower's images with."""
    mean, std = PIXEL_STATISTICS[provenance.experiment.image.pixel_normalisation]
    return {"mean": mean, "std": std, "interpolation": "bilinear"}


def _write_weights_and_config(
    folder: Path,
    weights_name: str,
    weights: StateDict,
    config_name: str,
    config_values: dict[str, Any],
) -> None:
    """Write weights, then their configuration, which marks the folder as complete."""
    save_weights(weights, folder / weights_name, {})
    with atomic_write(folder / config_name) as temporary:
        temporary.write_text(json.dumps(config_values, indent=2), encoding="utf-8")
