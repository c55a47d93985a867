"""A view of an image is more similar to its other view than to views of other images (SimCLR, arXiv:2002.05709)."""

import torch
import torch.nn.functional as F
from torch import nn

from bench.interfaces.extensions import Extension
from bench.interfaces.method import Method
from losses.chunks import loss_dtype, without_autocast
from losses.collectives import all_gather_with_gradient, draw_local_rows, rank_and_world_size
from models.heads import ImageClassifier

TEMPERATURE = 0.1


class SimCLR(Method):
    """Softmax cross-entropy: which of all views in the batch is the other view of the same image."""

    name = "simclr"
    title = "SimCLR"
    views = 2
    compares_batch = True

    def build_model(self, tower, experiment):
        head = nn.Sequential(nn.Linear(tower.width, tower.width), nn.ReLU())
        head.append(nn.Linear(tower.width, 128))
        return ImageClassifier(tower, head)

    def loss(self, model, images, target, group):
        # (batch, 2, 3, height, width): each view gets a contrast of its own in each channel.
        shape = (len(images), 2, 3, 1, 1)
        contrast = 0.5 + draw_local_rows(torch.rand, shape, group, device=images.device)
        features = model((images * contrast).flatten(0, 1))  # the views 2i and 2i + 1 show image i
        with without_autocast(images.device):
            features = F.normalize(features.to(loss_dtype(features.dtype)))
            similarity = features @ all_gather_with_gradient(features, group).T / TEMPERATURE
            rank, _ = rank_and_world_size(group)
            columns = torch.arange(similarity.shape[1], device=images.device)
            places = columns[rank * len(features) :][: len(features)]
            itself = columns == places[:, None]
            return F.cross_entropy(similarity.masked_fill(itself, -torch.inf), places ^ 1)


EXTENSION = Extension(methods=[SimCLR()])
