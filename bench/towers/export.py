"""Export of trained towers to the layouts of open_clip and timm."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import open_clip
import torch
from open_clip.transformer import VisionTransformer
from timm.models.eva import Eva
from torch import Tensor

from bench.console.console import PROGRAM
from bench.environment.files import atomic_write
from bench.towers.head_file import TextEncoder, save_tower
from bench.towers.provenance import Provenance
from bench.towers.tower_from import FOLDER_CONFIG, FOLDER_WEIGHTS, LoadedTower
from models import open_clip_config
from models.heads import open_clip_state
from models.image_tower import PIXEL_STATISTICS

ALL_IDS = 49_408  # of open_clip's tokenizer
NO_TEXT = {"context_length": 77, "vocab_size": ALL_IDS, "width": 8, "heads": 1, "layers": 1}


def export_tower(loaded: LoadedTower, out: Path) -> str:
    """Write a tower that was trained here to a folder; return the line of Python that loads it.

    A tower with its text tower becomes a model of open_clip, for open_clip's own tokenizer. A tower alone becomes a
    model whose projection is the identity, so that `encode_image` returns the tower's features; its small text tower is
    untrained. A timm tower becomes a folder of timm. ValueError for a tower that neither library builds.
    """
    if loaded.provenance is None:
        raise ValueError(f"{loaded.name} was not trained here: export accepts the towers of `{PROGRAM} train`")
    trunk, config = loaded.tower.trunk, open_clip_config(loaded.architecture)
    if isinstance(trunk, VisionTransformer) and config is not None:
        texts = loaded.read_text_encoder()
        described, weights = (
            _dual_encoder_weights(loaded, config, texts) if texts else _image_tower_weights(loaded, config)
        )
        described["vision_cfg"] |= {"image_size": loaded.tower.image_size, "pool_type": trunk.pool_type}
        made = msgspec.to_builtins(loaded.provenance)
        preprocessing = _preprocessing(loaded.provenance) | {"resize_mode": "shortest"}
        facts = {"model_cfg": described, "preprocess_cfg": preprocessing, "made": made}
        _write_folder(out, FOLDER_WEIGHTS[0], weights, FOLDER_CONFIG, facts)
        return f"open_clip.create_model({f'local-dir:{out}'!r})"
    if type(trunk).__module__.startswith("timm."):
        _write_folder(out, "model.safetensors", trunk.state_dict(), "config.json", _timm_config(loaded))
        return f"timm.create_model({f'local-dir:{out}'!r}, pretrained=True)"
    raise ValueError(f"{loaded.name} has a {type(trunk).__name__}, which neither open_clip nor timm builds from a file")


def _dual_encoder_weights(
    loaded: LoadedTower, config: dict[str, Any], texts: TextEncoder
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    assert loaded.provenance is not None
    pair, trained = texts.pair, loaded.provenance.experiment
    text = open_clip_config(trained.text.text_tower)
    assert text is not None
    if pair.text.padding_reason or text.get("quick_gelu", False) != config.get("quick_gelu", False):
        why = pair.text.padding_reason or f"{trained.text.text_tower} has a different GELU from {loaded.architecture}"
        raise ValueError(f"{loaded.name} is not exported: {why}")
    described = _without_text(config) | {
        "embed_dim": pair.text.width,
        "text_cfg": text["text_cfg"] | {"context_length": trained.text.context_length, "vocab_size": ALL_IDS},
    }
    if pair.bias is not None:
        described["init_logit_bias"] = 0.0  # makes open_clip build a bias; its value is loaded
    weights = open_clip_state(pair)
    rows, numbers = weights["token_embedding.weight"], torch.from_numpy(texts.subwords.id_map)
    table = rows.new_zeros(len(numbers), rows.shape[1])  # by the tokenizer's ids; 0 for those outside the vocabulary
    table[numbers >= 0] = rows[numbers[numbers >= 0]]
    return described, weights | {"token_embedding.weight": table}


def _image_tower_weights(loaded: LoadedTower, config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    width = loaded.tower.width
    described = _without_text(config) | {"embed_dim": width, "text_cfg": NO_TEXT}
    sizes = (width, described["vision_cfg"] | {"image_size": loaded.tower.image_size}, NO_TEXT)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = open_clip.CLIP(*sizes).state_dict()
    weights |= {f"visual.{name}": value for name, value in loaded.tower.trunk.state_dict().items()}
    return described, weights | {"visual.proj": torch.eye(width)}


def _without_text(config: dict[str, Any]) -> dict[str, Any]:
    return {name: copy.deepcopy(config[name]) for name in ("vision_cfg", "quick_gelu") if name in config}


def _timm_config(loaded: LoadedTower) -> dict[str, Any]:
    """Return the configuration that timm reads beside weights: `timm/models/_hub.py`, `save_config_for_hf`."""
    assert loaded.provenance is not None
    trunk, side = loaded.tower.trunk, loaded.tower.image_size
    sizes = {"img_size": side} if hasattr(trunk, "patch_embed") else {}
    has_own_pooling = loaded.provenance.experiment.image.pooling == "own"
    norm_option = "use_fc_norm" if isinstance(trunk, Eva) else "fc_norm"  # False: the norm stays before the pooling
    pooling = {} if has_own_pooling else {"global_pool": trunk.global_pool, norm_option: False}
    shown = {"input_size": (3, side, side), "fixed_input_size": True, "crop_pct": 1.0, "crop_mode": "center"}
    shown |= {"num_classes": 0} | _preprocessing(loaded.provenance)
    return {
        "architecture": loaded.architecture,
        "num_classes": 0,
        "num_features": loaded.tower.width,
        "pretrained_cfg": shown,
        "model_args": sizes | pooling,
        "made": msgspec.to_builtins(loaded.provenance),
    }


def _preprocessing(provenance: Provenance) -> dict[str, Any]:
    """Return how both libraries prepare the images of a tower, beside scaling and cropping to the centre."""
    mean, std = PIXEL_STATISTICS[provenance.experiment.image.pixel_normalisation]
    return {"mean": mean, "std": std, "interpolation": "bilinear"}


def _write_folder(out: Path, file: str, weights: Mapping[str, Tensor], config: str, facts: dict[str, Any]) -> None:
    """Write weights, then their configuration, which marks the folder as complete."""
    save_tower(weights, out / file, {})
    with atomic_write(out / config) as temporary:
        temporary.write_text(json.dumps(facts, indent=2), encoding="utf-8")
