"""Captions made of the pack's are as long as the web's."""

import statistics

import pytest

from bench.data.long_captions import lengthened
from bench.data.pack import Pictures
from bench.labels.subwords import SubwordIds


def test_lengths_have_the_median_and_the_tail_of_the_web(pictures: Pictures) -> None:
    captions = SubwordIds("all").encode(pictures.captions)
    longer = lengthened(captions, seed=0)
    lengths = [2 + len(caption) for caption in longer]  # with start and end
    assert len(longer) == len(captions)
    assert statistics.median(lengths) == pytest.approx(15, abs=1)
    assert statistics.quantiles(lengths, n=20)[-1] == pytest.approx(40, abs=2)
    assert min(lengths) >= 3
    assert longer == lengthened(captions, seed=0)
    assert longer != lengthened(captions, seed=1)


def test_a_caption_begins_as_it_did() -> None:
    captions = [[1, 2, 3], [], [4] * 50]
    for caption, longer in zip(captions, lengthened(captions, seed=3), strict=True):
        assert longer[: len(caption)] == caption[: len(longer)]
        assert {*longer} <= {1, 2, 3, 4}
