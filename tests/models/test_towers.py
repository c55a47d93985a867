"""Our text forward equals open_clip's on the padded batch, outputs and gradients."""

import copy
import json
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, get_args

import open_clip
import pytest
import torch
from open_clip.model import _build_text_tower
from open_clip.transformer import VisionTransformer

from bench.data.targets import CaptionTokens
from bench.experiment.fields import TextPadding
from models import find_open_clip_config, text_tower
from models.image_tower import build_image_tower
from models.open_clip_blocks import (
    ClassTokenOnlyBlock,
    ImageBlock,
    replace_blocks_by_image_blocks,
    uses_class_token_only,
)
from models.text_tower import TextTower, build_text_tower
from tests.tensors import assert_equal_with_gradients

CAPTIONS = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10], [11] * 22, [12] * 13, [13], [14] * 30]
VARIANTS: dict[str, dict[str, Any]] = {
    "as CLIP": {},
    "projection with bias": {"proj_bias": True},
    "no projection": {"proj_type": "none"},
    "end token by its number": {"pool_type": "eos", "eos_id": 49},
    "layer scale": {"ls_init_value": 0.1},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("padding", get_args(TextPadding))
def test_bucketed_batch_equals_open_clips_padded_batch(padding: TextPadding, variant: str) -> None:
    """To float64's last digits: features, and the gradient of every parameter."""
    torch.manual_seed(0)
    sizes = {"context_length": 24, "vocab_size": 50, "width": 32, "heads": 2, "layers": 2}
    theirs = _build_text_tower(16, sizes | VARIANTS[variant]).double()
    ours = TextTower(copy.deepcopy(theirs))
    tokens = CaptionTokens.from_ids_without_start_and_end(
        CAPTIONS, start=48, end=49, context_length=24, padding=padding
    )
    rows = torch.tensor([2, 0, 1, 3, 2, 6, 4, 5])
    cut = tokens.select(rows)
    assert len(cut.groups) == (4 if padding == "length_groups" else 1)
    found, expected = ours(*cut.text_tower_inputs), theirs(tokens.groups[0][rows])
    assert found.shape == (len(rows), ours.width)
    assert_equal_with_gradients((found, ours.text.parameters()), (expected, theirs.parameters()))


@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP", "coca_ViT-B-32"])
def test_padded_text_tower_equals_open_clips(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = find_open_clip_config(name)
    assert whole is not None
    small = whole["text_cfg"] | {"width": 32, "heads": 2, "layers": 2}
    monkeypatch.setattr(
        text_tower, "find_open_clip_config", lambda _: whole | {"embed_dim": 32, "text_cfg": small}
    )
    ours = build_text_tower(name, 12, 50, 0)
    tokens = CaptionTokens.from_ids_without_start_and_end(
        CAPTIONS[:3], 48, 49, 12, "max_length"
    ).select(torch.tensor([2, 0, 1]))
    padded = tokens.groups[0]
    torch.testing.assert_close(
        ours(*tokens.text_tower_inputs), ours.text(padded)[tokens.inverse_permutation]
    )
    longer = ours.text.positional_embedding.shape[0] - padded.shape[1]
    assert longer == (1 if "coca" in name else 0)


@pytest.mark.slow
def test_every_open_clip_text_tower_is_bucketed_padded_or_refused() -> None:
    """The three together are all, and none fails when it is built; many models share a text tower."""
    kinds: Counter[str] = Counter()
    configs = {
        name: open_clip.get_model_config(name)["text_cfg"] for name in open_clip.list_models()
    }
    for name in {
        json.dumps(config, sort_keys=True): name for name, config in configs.items()
    }.values():
        with torch.device("meta"):
            if "hf_model_name" in configs[name]:
                with pytest.raises(ValueError, match="which open_clip does not build itself"):
                    build_text_tower(name, 77, 100, 0)
                kinds["refused"] += 1
            else:
                kinds["padded" if build_text_tower(name, 77, 100, 0).padding_reason else "cut"] += 1
    assert kinds.keys() == {"cut", "padded", "refused"}


@pytest.mark.parametrize("pool", ["tok", "avg"])
@pytest.mark.parametrize("scaled", [None, 0.1])
def test_our_blocks_change_neither_feature_nor_gradient(pool: str, scaled: float | None) -> None:
    """To float64's last digits; the last computes the class token alone, unless all tokens are pooled."""
    torch.manual_seed(0)
    sizes = {
        "image_size": 24,
        "patch_size": 8,
        "width": 32,
        "layers": 3,
        "heads": 2,
        "mlp_ratio": 4,
    }
    theirs = VisionTransformer(**sizes, pool_type=pool, ls_init_value=scaled).double()
    theirs.proj = None
    ours = copy.deepcopy(theirs)
    replace_blocks_by_image_blocks(ours.transformer, class_token_only=uses_class_token_only(ours))
    kinds = [type(block) for block in ours.transformer.resblocks]
    assert kinds == [ImageBlock, ImageBlock, ClassTokenOnlyBlock if pool == "tok" else ImageBlock]
    images = torch.randn(3, 3, 24, 24, dtype=torch.float64)
    assert_equal_with_gradients(*((tower(images), tower.parameters()) for tower in (ours, theirs)))


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet18"])
def test_multi_size_tower_has_the_weights_and_features_of_one_size(name: str) -> None:
    single, several = (build_image_tower(name, 48, 3, sizes).eval() for sizes in ((), (32, 48, 64)))
    images = torch.randn(2, 3, 48, 48)
    assert torch.equal(single(images), several(images))
    assert several(torch.randn(2, 3, 64, 64)).shape == (2, several.width)


@pytest.mark.parametrize("prefix", ["hf-hub:", "local-dir:"])
@pytest.mark.parametrize(
    "build",
    [lambda name: build_image_tower(name, 48, 0), lambda name: build_text_tower(name, 24, 99, 0)],
)
def test_a_name_with_a_source_asks_no_hub_and_reads_no_folder(
    prefix: str, build: Callable[[str], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger's tower file may name any tower; its metadata must reach neither network nor folders."""
    (tmp_path / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": open_clip.get_model_config("ViT-B-32")})
    )
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("asks for an address"))
    with pytest.raises(ValueError, match=r"no tower named|has no model"):
        build(f"{prefix}{tmp_path}")


@pytest.mark.parametrize(
    ("name", "sizes", "text"),
    [
        (
            "catlip-bench-tiny",
            (50,),
            "12 px of the tower catlip-bench-tiny leave 2 of 50 px .*48 or 60",
        ),
        ("vit_tiny_patch16_224", (32, 50), "leave 2 of 50 px uncovered; sizes that fit: 48 or 64"),
        ("ViT-SO400M-14-SigLIP-384", (384,), ""),  # published so
        ("resnet18", (50,), ""),
    ],
)
def test_pixels_that_no_patch_covers_are_refused(
    name: str, sizes: tuple[int, ...], text: str
) -> None:
    refusal = pytest.raises(ValueError, match=text) if text else nullcontext()
    with torch.device("meta"), refusal:
        build_image_tower(name, sizes[0], 0, sizes[1:] and sizes)
