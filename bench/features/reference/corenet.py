"""The authors' CatLIP and CLIP, built from a checkout of apple/corenet with our weights.

Source: apple/corenet 1aa3acd, the models, losses and optimizers of `projects/catlip/pretraining/vit_base.yaml` and
`projects/clip/clip_vit_base.yaml`, and the step of `corenet/engine/default_trainer.py`.
"""

import sys
from pathlib import Path
from typing import Any

import torchvision.io
from torch import Tensor, nn

from bench.data.stream import Batch
from bench.experiment.config import Experiment
from bench.features.reference import CHECKOUTS, RELEASED_FILES
from bench.features.reference.checkouts import make_reference_step, match_weights, stub_missing_packages
from bench.train.build import TrainState
from bench.train.step import Step
from models.corenet_vit import PREFIX, convert_name
from models.heads import DualEncoder

OUR_NAMES = {
    "logit_scale": "log_scale",
    "classifier.weight": "head.weight",
    "classifier.bias": "head.bias",
    "image_encoder.classifier.proj": "projection",
    "text_encoder.embedding_layer.weight": "text.text.token_embedding.weight",
    "text_encoder.positional_embedding.pos_embed.pos_embed": "text.text.positional_embedding",
    "text_encoder.final_layer_norm.weight": "text.text.ln_final.weight",
    "text_encoder.final_layer_norm.bias": "text.text.ln_final.bias",
    "text_encoder.projection_layer": "text.text.text_projection",
}


def import_corenet(checkout: Path) -> None:
    """Make `corenet` importable from a checkout, with empty replacements of what is not installed and no step uses."""
    sys.path.append(str(checkout))
    stub_missing_packages(CHECKOUTS["corenet"].unused)
    for name in ("write_video", "read_video"):  # torchvision has dropped them
        if not hasattr(torchvision.io, name):
            setattr(torchvision.io, name, None)


def build_corenet(state: TrainState, checkout: Path) -> tuple[nn.Module, Step[Any]]:
    """Return CoreNet's model with the weights of ours, and its step.

    The step's targets are captions padded to the context for CLIP, and multi-hot rows for CatLIP. RangeAugment and the
    moving average of the weights are off. Raises RuntimeError where the checkout's code fails, as that of another
    commit may.
    """
    import_corenet(checkout)
    experiment, device = state.stream.experiment, state.stream.device
    try:
        from corenet.loss_fn import build_loss_fn
        from corenet.modeling import get_model
        from corenet.optims import build_optimizer
        from corenet.options.opts import get_training_arguments

        options = get_training_arguments(
            args=["--common.config-file", str(checkout / RELEASED_FILES["vit-b16"][experiment.method])]
        )
        vars(options).update(_options(experiment, state.model, options))
        model: nn.Module = get_model(options)
        model.load_state_dict(match_weights(state.model.state_dict(), model.state_dict(), our_name))
        model.to(device).train()
        loss_function, optimizer = build_loss_fn(options), build_optimizer(model, options)
    except SystemExit as error:
        raise RuntimeError(f"{checkout}: {error.code}") from None
    loss_function.train()

    def compute_loss(batch: Batch[Any]) -> Tensor:
        images, target = state.tower.normalise_for_trunk(batch.images), batch.target
        is_clip = experiment.method == "clip"
        labels = target.groups[0][target.inverse_permutation] if is_clip else target.values
        samples = {"image": images, "text": labels} if is_clip else images
        losses = loss_function(samples, model(samples), labels, epoch=0, iterations=0)
        total: Tensor = losses["total_loss"]
        return total

    return model, make_reference_step(experiment, model, optimizer, compute_loss)


def our_name(name: str) -> str:
    """Return our name of a weight of CoreNet's CLIP or of its ViT with a classifier."""
    if name in OUR_NAMES:
        return OUR_NAMES[name]
    if name.startswith("text_encoder."):
        return "text.text." + convert_name(name.removeprefix("text_encoder."))
    return "tower.trunk." + convert_name(name.removeprefix("image_encoder."))


def _options(experiment: Experiment, model: nn.Module, options: Any) -> dict[str, Any]:
    """Return the options in which the experiment differs from the released file."""
    changed = {
        "model.classification.vit.mode": experiment.image.tower.removeprefix(PREFIX),
        "model.activation_checkpointing": experiment.runtime.activation_checkpointing,
        "model.learn_augmentation.mode": None,
        "loss.composite_loss": getattr(options, "loss.composite_loss")[:1],  # the second is RangeAugment's
        "optim.weight_decay": experiment.optimizer.weight_decay,
        "optim.adamw.beta1": experiment.optimizer.betas[0],
        "optim.adamw.beta2": experiment.optimizer.betas[1],
        "optim.adamw.eps": experiment.optimizer.eps,
    }
    if not isinstance(model, DualEncoder):
        return changed | {"model.classification.n_classes": model.head.out_features}  # type: ignore[union-attr]
    text = model.text.text
    return changed | {
        "model.multi_modal_image_text.clip.projection_dim": text.output_dim,
        "model.text.vocab_size": text.vocab_size,
        "model.text.context_length": text.context_length,
        "model.text.transformer.model_dim": text.width,
        "model.text.transformer.n_heads_per_layer": text.heads,
        "model.text.transformer.n_transformer_layers": len(text.transformer.resblocks),
    }
