"""What the methods put around the shared tower."""

import math

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.image_tower import ImageTower
from models.text_tower import TextTower


class Contrastive(nn.Module):
    """Image tower and text tower, projected into one space, with a learnt scale and perhaps a bias.

    Scale is kept as its logarithm. Initial values are the caller's, for the methods differ in them.
    """

    def __init__(self, tower: ImageTower, text: TextTower, *, initial_scale: float, initial_bias: float | None) -> None:
        super().__init__()
        self.tower = tower
        self.text = text
        # Scaled as open_clip's VisionTransformer initialises its projection.
        self.projection = nn.Parameter(torch.randn(tower.width, text.width) / math.sqrt(tower.width))
        self.log_scale = nn.Parameter(torch.tensor(math.log(initial_scale)))
        self.bias = None if initial_bias is None else nn.Parameter(torch.tensor(initial_bias))

    def forward(
        self,
        images: Float[Tensor, "batch 3 height width"],
        groups: tuple[Int[Tensor, "_ _"], ...],
        lengths: Int[Tensor, " batch"],
        places: Int[Tensor, " batch"],
    ) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch dim"]]:
        """Return the L2-normalised features of images and captions, captions as `TextTower` takes them."""
        image = F.normalize(self.tower(images) @ self.projection, dim=-1)
        return image, F.normalize(self.text(groups, lengths, places), dim=-1)


class Classifier(nn.Module):
    """Image tower and one linear layer: a logit for each label."""

    def __init__(self, tower: ImageTower, num_labels: int) -> None:
        super().__init__()
        self.tower = tower
        self.head = nn.Linear(tower.width, num_labels)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch labels"]:
        """Return logits."""
        logits: Tensor = self.head(self.tower(images))
        return logits


class TokenClassifier(Classifier):
    """A classifier over subword tokens that counts how many images had each, for their weights."""

    images_with_token: Tensor
    images_seen: Tensor

    def __init__(self, tower: ImageTower, num_labels: int) -> None:
        super().__init__(tower, num_labels)
        self.register_buffer("images_with_token", torch.zeros(num_labels, dtype=torch.float64))
        self.register_buffer("images_seen", torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def count(
        self, columns: Int[Tensor, " positives"], num_images: int, group: dist.ProcessGroup | None = None
    ) -> None:
        """Add a batch: `columns` holds each image's distinct tokens. With a group, add the batches of all its ranks."""
        if group is None:
            self.images_with_token.index_add_(0, columns, torch.ones_like(columns, dtype=torch.float64))
            self.images_seen += num_images
            return
        of_batch = torch.zeros_like(self.images_with_token, dtype=torch.float32)
        of_batch.index_add_(0, columns, torch.ones_like(columns, dtype=torch.float32))
        dist.all_reduce(of_batch, group=group)
        self.images_with_token += of_batch
        self.images_seen += num_images * dist.get_world_size(group)
