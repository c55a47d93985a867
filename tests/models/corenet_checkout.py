"""CoreNet's own ViT, from a checkout of apple/corenet, and what it computes of weights drawn here.

    python -m tests.models.corenet_checkout FOLDER

writes what `test_corenet_vit.py` compares with where there is no checkout: `corenet-vit.npz`, from commit 1aa3acd.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

RECORDED = Path(__file__).with_name("corenet-vit.npz")
SIDES = (224, 160)  # pixels: with its positions, and with interpolated ones
CLASSES = 12


def corenet_vit(checkout: Path, size: str, *, flash: bool, classes: int = CLASSES) -> Any:
    """Build CoreNet's ViT as CatLIP's recipes do."""
    if str(checkout) not in sys.path:
        from bench.features.reference.corenet import import_corenet

        import_corenet(checkout)
    from corenet.modeling import modeling_arguments
    from corenet.modeling.models.classification.vit import VisionTransformer

    options = modeling_arguments(argparse.ArgumentParser()).parse_args([])
    text = {
        "classification.n_classes": classes,
        "classification.vit.mode": size,
        "classification.vit.norm_layer": "layer_norm_fp32",
        "classification.vit.use_flash_attention": flash,
        "activation.name": "gelu",
        "layer.conv_init": "kaiming_normal",
        "layer.linear_init": "trunc_normal",
        "layer.linear_init_std_dev": 0.02,
    }
    for name, value in text.items():
        setattr(options, f"model.{name}", value)
    return VisionTransformer(options).eval()


def drawn(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Draw weights for names and shapes, the same everywhere: numpy's RandomState is frozen.

    Norms scale by about 1, variances are positive.
    """
    draw = np.random.RandomState(0)
    weights = {}
    for name, shape in shapes.items():
        spread = 0.3 if len(shape) == 1 else 0.05
        value = spread * draw.standard_normal(shape) + (len(shape) == 1 and name.endswith("weight"))
        if name.endswith("running_var"):
            value = 1 + np.abs(value)
        counts = name.endswith("num_batches_tracked")
        weights[name] = (
            torch.tensor(7) if counts else torch.from_numpy(np.asarray(value, dtype=np.float32))
        )
    return weights


def images(side: int) -> torch.Tensor:
    """Draw two images of pixels from 0 to 1."""
    return torch.from_numpy(
        np.random.RandomState(side).random_sample((2, 3, side, side)).astype(np.float32)
    )


@torch.no_grad()
def answers(model: Any, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what CoreNet's model pools, and its logits."""
    return model.extract_features(images(side))[0], model(images(side))


def main(checkout: Path) -> None:
    """Record names, shapes, features and logits of the tiny size, with and without flash attention."""
    recorded = {}
    for flash in (True, False):
        model = corenet_vit(checkout, "tiny", flash=flash)
        shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        model.load_state_dict(drawn(shapes))
        kind = "flash" if flash else "naive"
        recorded[f"{kind} names"] = np.array(list(shapes))
        recorded[f"{kind} shapes"] = np.array(
            [" ".join(map(str, shape)) for shape in shapes.values()]
        )
        for side in SIDES:
            features, logits = answers(model, side)
            recorded |= {
                f"{kind} features {side}": features.numpy(),
                f"{kind} logits {side}": logits.numpy(),
            }
    np.savez_compressed(RECORDED, **recorded)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
