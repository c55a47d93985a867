"""Writing of a tower's file, and of what a method put around it, trained with it, in a file beside the tower's.

The second holds the rows of a classifier, or a text tower and its projection; a tower without one still loads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from bench.data.targets import CaptionTokens
from bench.environment.files import atomic_write, prefix_errors
from bench.labels.subwords import SubwordEncoder
from bench.towers.provenance import (
    TowerProvenance,
    get_head_path,
    has_text_tower,
    read_safetensors_metadata,
)
from models import StateDict
from models.checkpoint import load_finite_weights_strictly, require_finite
from models.heads import DualEncoder
from models.image_tower import ImageTower
from models.text_tower import build_text_tower

if TYPE_CHECKING:
    from bench.experiment.fields import TextPadding

MATRIX = 2  # dimensions of a classifier's weight


@dataclass(frozen=True, slots=True)
class LabelClassifier:
    """A classifier over a vocabulary: one row a label, in the vocabulary's order. More rows than labels may follow."""

    weight: Float[Tensor, "labels width"]
    bias: Float[Tensor, " labels"]
    keys: tuple[str, ...]  # synsets, `n2084071`; empty where the vocabulary is not known


Prompts = Sequence[tuple[str, ...]]  # of each class


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """A text tower that was trained with an image tower, and its tokenizer."""

    pair: DualEncoder
    subwords: SubwordEncoder
    context_length: int

    @torch.no_grad()
    def encode(self, captions: tuple[str, ...]) -> Float[Tensor, "captions dim"]:
        """Return the L2-normalised features of captions."""
        start, end = self.subwords.start_and_end
        padding: TextPadding = "max_length" if self.pair.text.padding_reason else "length_groups"
        ids = self.subwords.encode_without_start_and_end(captions)
        tokens = CaptionTokens.from_ids_without_start_and_end(
            ids, start, end, self.context_length, padding
        )
        batch = tokens.select(torch.arange(len(captions))).to(self.pair.projection.device)
        return F.normalize(self.pair.text(*batch.text_tower_inputs), dim=-1)

    @torch.no_grad()
    def encode_classes(self, prompts_by_class: Prompts) -> Float[Tensor, "classes dim"]:
        """Return for each class the L2-normalised mean of the L2-normalised features of its prompts.

        They are the columns of open_clip's `build_zero_shot_classifier` (`zero_shot_classifier.py`).
        """
        means = [self.encode(class_prompts).mean(0) for class_prompts in prompts_by_class]
        return F.normalize(torch.stack(means), dim=-1)

    @torch.no_grad()
    def make_classifier_rows(self, prompts_by_class: Prompts) -> Float[Tensor, "classes width"]:
        """Return the weight of a linear classifier over the image tower's features, from the prompts of each class.

        The product of a row and a feature, divided by the length of the projected feature, is the logit of the class.
        """
        scale = self.pair.log_scale.exp()
        rows: Tensor = scale * self.encode_classes(prompts_by_class) @ self.pair.projection.T
        return rows


def save_weights(state: StateDict, path: Path, metadata: Mapping[str, str]) -> None:
    """Write weights atomically to a safetensors file with metadata."""
    tensors = {name: value.detach().contiguous() for name, value in state.items()}
    with atomic_write(path) as temporary:
        # `save_file` of safetensors would let only the user read it.
        temporary.write_bytes(save(tensors, dict(metadata) or None))


def save_head_beside_tower(
    state: StateDict,
    tower_path: Path,
    provenance: TowerProvenance,
    row_labels: Sequence[str],
) -> None:
    """Write the weights that were trained with a tower, and the labels of a classifier's rows, beside its file."""
    labels = msgspec.json.encode(row_labels).decode()
    metadata = provenance.to_metadata() | {"labels": labels}
    save_weights(state, get_head_path(tower_path), metadata)


def make_label_classifier(
    weight: Tensor, bias: Tensor, label_keys: tuple[str, ...]
) -> LabelClassifier:
    """Return a `LabelClassifier`; ValueError for unfit shapes, fewer rows than labels, or values not finite."""
    if weight.ndim != MATRIX or bias.shape != weight.shape[:1] or len(weight) < len(label_keys):
        shapes = f"{list(weight.shape)} and {list(bias.shape)}"
        raise ValueError(f"weight and bias of shapes {shapes} for {len(label_keys):,} labels")
    require_finite(weight, "the classifier's weights")
    require_finite(bias, "the classifier's biases")
    return LabelClassifier(weight, bias, label_keys)


def read_label_classifier(tower_path: Path) -> LabelClassifier | None:
    """Return the label classifier that was trained with the tower of a file; None if none was stored."""
    path = get_head_path(tower_path)
    if not path.is_file():
        return None
    with prefix_errors(
        f"{path} holds no classifier", (ValueError, KeyError, msgspec.DecodeError, SafetensorError)
    ):
        labels = read_safetensors_metadata(path)["labels"]
        keys = msgspec.json.decode(labels, type=tuple[str, ...])
        if not keys:
            return None
        weights = load_file(path)
        return make_label_classifier(weights["head.weight"], weights["head.bias"], keys)


def read_text_encoder(
    tower: ImageTower, tower_path: Path, provenance: TowerProvenance
) -> TextEncoder | None:
    """Return the text tower that was trained with the image tower of a file; None if none was stored.

    Other weights in the file, for example of a classifier beside the text tower, are not read.
    """
    head_file = get_head_path(tower_path)
    if not has_text_tower(tower_path):
        return None
    with prefix_errors(head_file, (SafetensorError,)):
        saved = load_file(head_file)
    settings = provenance.experiment.text
    subwords = SubwordEncoder(provenance.experiment.targets.subword_vocabulary)
    text = build_text_tower(settings.text_tower, settings.context_length, subwords.size, seed=0)
    bias = 0.0 if "bias" in saved else None
    pair = DualEncoder(tower, text, initial_scale=1.0, initial_bias=bias)
    weights = {}
    for name, value in pair.state_dict().items():
        if name.startswith("tower."):
            weights[name] = value
        elif name in saved:
            weights[name] = saved[name]
    load_finite_weights_strictly(pair, weights, f"{head_file} does not fit {settings.text_tower}")
    return TextEncoder(pair.eval(), subwords, settings.context_length)
