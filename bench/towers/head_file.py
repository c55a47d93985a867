"""What a method put around a tower, trained with it: a file beside the tower's.

It holds the rows of a classifier, or a text tower and its projection; a tower that was left without one still loads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from bench.config import CONTRASTIVE, TextPadding
from bench.data.targets import Tokens
from bench.labels.subwords import SubwordIds
from bench.labels.vocabulary import read_vocabulary
from bench.methods import method_named
from bench.towers.made import Made, head_path
from models.checkpoint import load_exactly, save_tower
from models.heads import Contrastive
from models.image_tower import ImageTower


@dataclass(frozen=True, slots=True)
class LabelRows:
    """A classifier over a vocabulary: one row a label, in the vocabulary's order. More rows than labels may follow."""

    weight: Float[Tensor, "labels width"]
    bias: Float[Tensor, " labels"]
    keys: tuple[str, ...]  # synsets, `n2084071`; empty where the vocabulary is not known


@dataclass(frozen=True, slots=True)
class Texts:
    """A text tower that was trained with a tower, and its tokens."""

    pair: Contrastive
    subwords: SubwordIds
    context_length: int

    @torch.no_grad()
    def embedded(self, captions: tuple[str, ...]) -> Float[Tensor, "captions dim"]:
        """Return the normalised features of captions."""
        start, end = self.subwords.start_and_end
        padding: TextPadding = "full" if self.pair.text.padded_because else "none"
        tokens = Tokens.of(self.subwords.encode(captions), start, end, self.context_length, padding)
        read = tokens.take(torch.arange(len(captions)))
        return F.normalize(self.pair.text(read.groups, read.lengths, read.places), dim=-1)

    @torch.no_grad()
    def rows(self, captions: tuple[str, ...]) -> Float[Tensor, "captions width"]:
        """Return rows of a head over the tower's own features.

        Such a row times a feature, over the length of the projected feature, is the logit of caption and image.
        """
        rows: Tensor = self.pair.log_scale.exp() * self.embedded(captions) @ self.pair.projection.T
        return rows


def save_head(state: Mapping[str, Tensor], tower: Path, made: Made) -> None:
    """Write it beside a tower's file, with the labels of the classifier's rows."""
    of = made.experiment
    labels = read_vocabulary(of.synset_vocabulary).keys if of.method == "catlip" else ()
    save_tower(state, head_path(tower), made.to_facts() | {"labels": msgspec.json.encode(labels).decode()})


def label_rows(tower: Path, made: Made) -> LabelRows | None:
    """Return the classifier over synsets that was trained with a tower; None where there was none, or none was kept."""
    path = head_path(tower)
    if made.experiment.method != "catlip" or not path.is_file():
        return None
    weights = load_file(path)
    with safe_open(path, framework="numpy") as file:
        keys = msgspec.json.decode(file.metadata()["labels"], type=tuple[str, ...])
    return LabelRows(weights["head.weight"], weights["head.bias"], keys)


def texts(tower: ImageTower, path: Path, made: Made) -> Texts | None:
    """Return the text tower that was trained with a tower; None where there was none, or none was kept."""
    of = made.experiment
    if of.method not in CONTRASTIVE or not head_path(path).is_file():
        return None
    pair = method_named(of.method).wrap(tower, of)
    assert isinstance(pair, Contrastive)
    around = load_file(head_path(path))
    weights = around | {f"tower.{name}": value for name, value in tower.state_dict().items()}
    load_exactly(pair, weights, f"{head_path(path)} does not hold what {of.method} puts around this tower")
    return Texts(pair.eval(), SubwordIds(of.subword_vocabulary), of.context_length)
