"""Captions made of the pack's are as long as the web's."""

import statistics

import pytest

from bench.data.long_captions import match_web_lengths
from bench.data.pack import PackImages
from bench.labels.subwords import SubwordIds


def test_lengthened_captions_have_the_webs_median_and_tail(images: PackImages) -> None:
    captions = SubwordIds("all").encode(images.captions)
    longer = match_web_lengths(captions, seed=0)
    lengths = [2 + len(caption) for caption in longer]  # with start and end
    assert len(longer) == len(captions)
    assert statistics.median(lengths) == pytest.approx(15, abs=1)
    assert statistics.quantiles(lengths, n=20)[-1] == pytest.approx(40, abs=2)
    assert min(lengths) >= 3
    assert longer == match_web_lengths(captions, seed=0)
    assert longer != match_web_lengths(captions, seed=1)


def test_lengthened_caption_starts_with_the_original() -> None:
    captions = [[1, 2, 3], [], [4] * 50]
    for caption, longer in zip(captions, match_web_lengths(captions, seed=3), strict=True):
        assert longer[: len(caption)] == caption[: len(longer)]
        assert {*longer} <= {1, 2, 3, 4}
