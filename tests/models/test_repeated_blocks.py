"""Blocks of equal structure that are not computed again change no count, whatever the tower."""

from bench.measure.costs import META, make_meta_captions
from bench.profilers.counters import count_forward_flops, count_matmul_flops
from models.text_tower import TextTower, build_open_clip_text_tower


def test_text_tower_has_the_flops_of_all_blocks() -> None:
    with META:
        tower = TextTower(build_open_clip_text_tower("ViT-B-32", 16, 2))
    inputs = make_meta_captions(3, 12).text_tower_inputs
    assert count_forward_flops(tower, *inputs) == count_matmul_flops(lambda: tower(*inputs))
