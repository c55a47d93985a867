"""Drawn scenes for detection: a red square and a green disc on grey noise, with exact masks, boxes and classes."""

import torch
from torchvision.ops import masks_to_boxes

from bench.features.dense_tasks.detection import ImageWithObjects

CLASSES = ("square", "disc")
COLOURS = torch.tensor([[220, 40, 40], [40, 200, 60]], dtype=torch.uint8)


def draw_scene(row: int, side: int) -> ImageWithObjects:
    """Draw the square in the left half and the disc in the right half; the scene is a function of its arguments."""
    generator = torch.Generator().manual_seed(row)
    rgb = torch.randint(90, 160, (1, side, side), generator=generator, dtype=torch.uint8).repeat(
        3, 1, 1
    )
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    radius = side // 8 + int(torch.randint(side // 16, (), generator=generator))
    centres = torch.randint(radius, side // 2 - radius, (4,), generator=generator).tolist()
    square = ((y - centres[0]).abs() < radius) & ((x - centres[1]).abs() < radius)
    disc = (y - centres[2]) ** 2 + (x - centres[3] - side // 2) ** 2 < radius**2
    masks = torch.stack([square, disc])
    for mask, colour in zip(masks, COLOURS, strict=True):
        rgb[:, mask] = colour[:, None]
    boxes = masks_to_boxes(masks) + torch.tensor([0, 0, 1, 1])
    return rgb, {
        "boxes": boxes,
        "labels": torch.tensor([1, 2]),
        "masks": masks,
        "iscrowd": torch.zeros(2, dtype=torch.int32),
    }
