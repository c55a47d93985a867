"""A caption costs bounded time and memory, whatever is in it."""

import random
import string

import pytest

from bench.labels import subwords
from bench.labels.subwords import LONGEST, SubwordIds, encoded, tokenizer


def test_captions_of_any_usual_length_are_open_clips() -> None:
    for caption in ("a dog", "", "ein Hünd \U0001f436", "a dog and a cat " * 100):
        assert encoded(caption) == tokenizer().encode(caption)


@pytest.mark.parametrize("unit", ["a", "é", "犬", "\U0001f436", "a dog "])
def test_of_a_long_caption_the_first_bytes_are_read(unit: str) -> None:
    kept, size = "", 0
    for letter in unit * LONGEST:
        if (size := size + len(letter.encode())) > LONGEST:
            break
        kept += letter
    assert encoded(unit * 1_000_000) == tokenizer().encode(kept)


def test_the_tokenizer_remembers_no_more_than_so_many_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subwords, "MOST_WORDS", 50)
    draw, first = random.Random(0), encoded("a dog <end_of_text>")
    for _ in range(200):
        encoded("".join(draw.choices(string.ascii_lowercase, k=8)))
        assert len(tokenizer().cache) <= 52
    assert encoded("a dog <end_of_text>") == first
    assert SubwordIds("all").encode(["a dog"]) == [first[:2]]
