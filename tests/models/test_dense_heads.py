"""What stands behind a patch map answers for the right places, whatever the patch's width."""

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList

from models.dense_heads import (
    LEVEL_SCALES,
    DetectionHeadSizes,
    Segmenter,
    build_mask_rcnn,
)
from models.image_tower import ImageTower, build_image_tower, build_open_clip_trunk
from models.open_clip_blocks import compute_all_tokens_in_last_block

SMALL = DetectionHeadSizes(
    channels=8, box_features=16, num_mask_layers=1, proposals_per_image=10, regions_per_image=8
)


def tower_of_patch(patch: int, num_patches: int) -> ImageTower:
    side = num_patches * patch
    vision = {
        "image_size": side,
        "patch_size": patch,
        "width": 32,
        "layers": 1,
        "head_width": 16,
    }
    config = {"embed_dim": 32, "vision_cfg": vision}
    trunk = build_open_clip_trunk(config, side)
    compute_all_tokens_in_last_block(trunk)
    return ImageTower(trunk, side)


def test_head_receives_maps_at_its_stride() -> None:
    seen: list[Tensor] = []
    head = torch.nn.Conv2d(128, 2, 1)
    head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    tower = build_image_tower("catlip-bench-tiny", 96, 0, last_block_computes_patches=True)
    Segmenter(tower, head)(torch.randn(1, 3, 96, 96))
    assert [one.shape[2:] for one in seen] == [(12, 12)]


@pytest.mark.parametrize("patch", [12, 16])
def test_regions_are_pooled_at_their_position(patch: int) -> None:
    """Pooled maps of each place's pixel tell the region's pixels; to torchvision place k is at k strides."""
    tower = tower_of_patch(patch, 16)
    pooling = build_mask_rcnn(tower, 2, SMALL).roi_heads.box_roi_pool
    maps = {}
    for number, scale in enumerate(LEVEL_SCALES):
        stride, count = patch / scale, round(16 * scale)
        pixels = torch.arange(count) * stride
        maps[str(number)] = torch.stack(
            [pixels.expand(count, -1), pixels[:, None].expand(-1, count)]
        )[None]
    boxes = torch.tensor(
        [[20.0, 30.0, 90.0, 65.0], [40.0, 40.0, 60.0, 72.0], [16.0, 20.0, 190.0, 180.0]]
    )
    pooled = pooling(maps, [boxes], [(16 * patch, 16 * patch)])
    for box, found in zip(boxes, pooled, strict=True):
        places = (torch.arange(7) + 0.5) / 7
        across = box[0] + places * (box[2] - box[0])
        down = box[1] + places * (box[3] - box[1])
        torch.testing.assert_close(found[0], across.expand(7, -1), rtol=0, atol=1e-3)
        torch.testing.assert_close(found[1], down[:, None].expand(-1, 7), rtol=0, atol=1e-3)


@pytest.mark.parametrize("patch", [12, 16])
def test_anchors_are_centred_on_map_positions(patch: int) -> None:
    tower = tower_of_patch(patch, 8)
    model = build_mask_rcnn(tower, 2, SMALL)
    images = torch.zeros(1, 3, 8 * patch, 8 * patch)
    maps = list(model.backbone(images).values())
    (anchors,) = model.rpn.anchor_generator(ImageList(images, [(8 * patch, 8 * patch)]), maps)
    counts = [3 * one.shape[2] * one.shape[3] for one in maps]
    for level, of_level in zip(maps, anchors.split(counts), strict=True):
        stride = 8 * patch / level.shape[3]
        middles = (of_level[:, :2] + of_level[:, 2:]) / 2
        assert (middles[::3, 0].view(level.shape[2:])[0] / stride).tolist() == list(
            range(level.shape[3])
        )
