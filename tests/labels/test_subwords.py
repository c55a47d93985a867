"""A caption costs bounded time and memory, whatever is in it."""

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer

from bench.labels import subwords
from bench.labels.subwords import (
    MAX_CAPTION_BYTES,
    SubwordEncoder,
    clean_like_open_clip,
    get_clip_tokenizer,
    repair_text,
)

encode_caption_without_start_and_end = (
    subwords.encode_caption_without_start_and_end.__wrapped__
)  # the tests share a cache of captions


def test_subwords_equal_open_clips_tokenizer() -> None:
    plain = SimpleTokenizer()
    for caption in ("a dog", "", "ein Hünd \U0001f436", "A dog &amp; a  cat " * 100):
        assert encode_caption_without_start_and_end(caption) == plain.encode(caption)


@given(st.one_of(st.text(), st.text(st.characters(max_codepoint=127))))
def test_captions_are_cleaned_as_by_open_clip(text: str) -> None:
    assert clean_like_open_clip(text) == repair_text(text)


@pytest.mark.parametrize("unit", ["a", "é", "犬", "\U0001f436", "a dog "])
def test_long_caption_is_truncated_to_its_first_bytes(unit: str) -> None:
    kept, size = "", 0
    for letter in unit * MAX_CAPTION_BYTES:
        if (size := size + len(letter.encode())) > MAX_CAPTION_BYTES:
            break
        kept += letter
    assert encode_caption_without_start_and_end(unit * 1_000_000) == get_clip_tokenizer().encode(
        kept
    )


def test_tokenizer_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subwords, "MAX_CACHED_WORDS", 50)
    draw, first = random.Random(0), encode_caption_without_start_and_end("a dog <end_of_text>")
    for _ in range(200):
        encode_caption_without_start_and_end("".join(draw.choices(string.ascii_lowercase, k=8)))
        assert len(get_clip_tokenizer().cache) <= 52
    assert encode_caption_without_start_and_end("a dog <end_of_text>") == first
    assert SubwordEncoder("all").encode_without_start_and_end(["a dog"]) == [first[:2]]
