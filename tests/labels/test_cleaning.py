"""Cleaning without ftfy's needless work is cleaning with it."""

import re
import string

import pytest
from ftfy import fix_text
from ftfy.badness import BADNESS_RE, is_bad
from hypothesis import given
from hypothesis import strategies as st

from bench.labels.cleaning import (
    DUBIOUS,
    SUSPECT,
    clean_caption_like_corenet,
    repair_text_like_ftfy,
)
from tests.labels.hostile import captions, hostile_captions
from tests.labels.oracle import clean_caption_as_released

MOJIBAKE = sorted({character for character in BADNESS_RE.pattern if not character.isascii()})
PIECES = [*MOJIBAKE, *" aA.?1<&;", "&amp;", "\n", "ﬁ", "“", "\u0301"]
dubious = st.lists(st.sampled_from(PIECES), max_size=10).map("".join)


@given(captions | dubious)
def test_cleaning_equals_the_released_code_and_repair_equals_ftfy(text: str) -> None:
    assert clean_caption_like_corenet(text) == clean_caption_as_released(text)
    assert repair_text_like_ftfy(text) == fix_text(text)


def test_hostile_captions_are_cleaned_as_released() -> None:
    texts = hostile_captions(10_000, seed=5)
    assert [clean_caption_like_corenet(text) for text in texts] == [
        clean_caption_as_released(text) for text in texts
    ]


def test_every_single_character_is_repaired_as_ftfy_does() -> None:
    codes = [*range(0x3100), *range(0xF000, 0x10000), *range(0x10000, 0x110000, 97)]
    texts = [f"a{chr(code)}b" for code in codes]
    assert [repair_text_like_ftfy(text) for text in texts] == [fix_text(text) for text in texts]


def test_suspect_ranges_cover_ftfys_mojibake() -> None:
    assert all(re.fullmatch(f"[{DUBIOUS}]", character) for character in MOJIBAKE)
    for character in map(chr, [*range(0x80, 0x800), *range(0x800, 0x2C00, 7)]):
        texts = [
            f"{before}{character} {character}{before} x {character}"
            for before in ("", *string.printable)
        ]
        if is_bad("  ".join(texts)):  # whether one of the texts is
            assert all(SUSPECT.search(text) or not is_bad(text) for text in texts), character


@pytest.mark.parametrize("more", ["", "\x01", "é"])
def test_nested_entities_take_bounded_time(more: str) -> None:
    """ftfy takes a pass for each: minutes for so many."""
    assert (
        clean_caption_like_corenet("a dog &" + "amp;" * 100_000 + f"lt; {more}")
        == f"a dog & {more}".replace("\x01", "").strip()
    )
