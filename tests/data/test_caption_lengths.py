"""Captions of the pack have the lengths that an experiment names, and their words stay words of the pack."""

from pathlib import Path
from statistics import median, quantiles

import pytest
import torch

from bench.data.caption_lengths import (
    WEB,
    describe_captions_that_runs_read,
    rewrite_captions_to_web_lengths,
)
from bench.data.pack import PackImages
from bench.experiment.experiments import EXPERIMENTS
from bench.experiment.fields import OWN_LENGTHS
from bench.experiment.settings import renamed_with_settings
from bench.labels.subwords import SubwordEncoder, encode_caption_without_start_and_end
from bench.train.build import open_batch_stream
from tests.small import small

CPU = torch.device("cpu")


def count_tokens(text: str) -> int:
    return len(encode_caption_without_start_and_end(text))


def lengths_of(texts: tuple[str, ...]) -> list[int]:
    return [2 + count_tokens(text) for text in texts]  # with start and end


@pytest.fixture(scope="module")
def matched(images: PackImages) -> tuple[str, ...]:
    return rewrite_captions_to_web_lengths(images.captions, count_tokens, 0)


def test_web_captions_have_a_median_of_15_and_a_95th_percentile_of_40_tokens(
    images: PackImages, matched: tuple[str, ...]
) -> None:
    lengths = lengths_of(matched)
    assert len(lengths) == len(images.captions)
    assert median(lengths) == 15
    assert quantiles(lengths, n=20)[-1] == pytest.approx(40, abs=0.5)
    assert min(lengths) >= 3


def test_matched_caption_keeps_its_own_words_and_is_extended_by_words_of_the_pack(
    images: PackImages, matched: tuple[str, ...]
) -> None:
    known = {word for caption in images.captions for word in caption.split()}
    for own, caption in zip(images.captions, matched, strict=True):
        assert {*caption.split()} <= known
        if count_tokens(own) <= count_tokens(caption):
            words = [word for word in own.split() if word.isprintable()]
            assert caption.split()[: len(words)] == words


def test_all_methods_read_the_same_captions(results: Path) -> None:
    """SuperClass's labels are the tokens that CLIP reads of the same caption, each once."""
    clip, superclass = (
        open_batch_stream(
            small(method, pack_caption_lengths=WEB, context_length=77, subword_vocabulary="all"),
            CPU,
            results,
        )
        for method in ("clip", "superclass")
    )
    tokens, labels = clip.target(0), superclass.target(0)
    rows = [row for ids in tokens.groups for row in ids.tolist()]
    start, end = SubwordEncoder("all").start_and_end
    for caption in range(16):
        text = {*rows[int(tokens.inverse_permutation[caption])]} - {start, end, 0}
        assert {*labels.columns[labels.rows == caption].tolist()} == text


def test_captions_of_shards_keep_their_lengths() -> None:
    clip = EXPERIMENTS["clip-vit-b16"]
    shards = renamed_with_settings(clip, ["data=own-shards"])
    assert (shards.input.pack_caption_lengths, shards.name) == (
        OWN_LENGTHS,
        "clip-vit-b16[data=own-shards]",
    )
    assert describe_captions_that_runs_read([shards.input]) == "those of own-shards"
    with pytest.raises(
        ValueError, match="pack_caption_lengths='web' is for the pack alone: leave it out"
    ):
        renamed_with_settings(clip, ["data=own-shards", "pack_caption_lengths=web"])
