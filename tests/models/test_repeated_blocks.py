"""Blocks of equal structure that are not computed again change no count, whatever the tower."""

import torch

from bench.measure.costs import META, meta_captions, meta_images
from bench.profilers.counters import count_forward_flops, count_matmul_flops
from models.image_tower import build_image_tower
from models.repeated_blocks import iterate_blocks, skip_repeated_blocks
from models.text_tower import TextTower, build_open_clip_text_tower


def test_text_tower_has_the_flops_of_all_blocks() -> None:
    with META:
        tower = TextTower(build_open_clip_text_tower("ViT-B-32", 16, 2))
    inputs = meta_captions(3, 12).inputs
    assert count_forward_flops(tower, *inputs) == count_matmul_flops(lambda: tower(*inputs))


def test_each_kind_of_block_is_computed_once_per_shape_and_the_tower_is_as_before() -> None:
    with META:
        tower = build_image_tower("vit_tiny_patch16_224", 224, 0, image_sizes=(224, 160))
    forwards = [block.forward for block in iterate_blocks(tower)]
    calls = list[int]()
    with (
        torch.no_grad(),
        skip_repeated_blocks(tower, lambda: calls.append(0) or len(calls)) as skipped,
    ):
        for size in (224, 160, 224):
            tower(meta_images(1, size, 3))
    assert len(calls) == 2 * 2  # before and after the first block of each size
    assert sum(skipped) == 3 * len(forwards) - 2
    assert [block.forward for block in iterate_blocks(tower)] == forwards
    assert not any("forward" in vars(block) for block in iterate_blocks(tower))
