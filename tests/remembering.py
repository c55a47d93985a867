"""An extension whose method reads two views, rows and step: a memory of each image's features, and a queue."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.interfaces.extensions import Extension
from bench.interfaces.method import Method
from losses.collectives import all_gather
from models.heads import ImageClassifier

WIDTH = 8
QUEUED = 48  # features
REMEMBERED = 16384  # more than the pack has images


class Remembering(Method):
    """A view is near the features that the image had before, and far from those of the queue."""

    name = "remembering"
    views = 2
    reads_rows_and_step = True

    def build_model(self, tower: Any, _: Any) -> nn.Module:
        model = ImageClassifier(tower, nn.Linear(tower.width, WIDTH))
        model.register_buffer("queue", torch.randn(QUEUED, WIDTH))
        model.register_buffer("memory", torch.randn(REMEMBERED, WIDTH))
        return model

    def loss(
        self,
        model: Any,
        images: Tensor,
        _target: Any,
        group: Any,
        rows: Any = None,
        step: int = 0,
    ) -> Tensor:
        features = F.normalize(model(images.flatten(0, 1)))
        first, second = features.view(len(images), 2, WIDTH).unbind(1)
        before = (second * model.memory[rows]).sum(1)
        others = (second @ model.queue.clone().T).logsumexp(1)
        with torch.no_grad():
            all_features = self.gather(first, group)
            all_rows = self.gather(rows[:, None].to(first), group).flatten().long()
            model.memory[all_rows] = all_features.to(model.memory)
            start = step * len(all_features) % QUEUED
            model.queue[start : start + len(all_features)] = all_features.to(model.queue)
        return (others - before).mean()

    def gather(self, values: Tensor, group: Any) -> Tensor:
        return all_gather(values, group)


class RemembersItsRank(Remembering):
    """Each process remembers and queues the features of its own images alone."""

    name = "remembers_its_rank"

    def gather(self, values: Tensor, _: Any) -> Tensor:
        return values


EXTENSION = Extension(methods=[Remembering(), RemembersItsRank()])
