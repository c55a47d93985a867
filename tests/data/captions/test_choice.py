"""A choice names fields of captions, and draws one of a sample's texts by its seed, its row and the epoch."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.data.captions.choice import (
    CaptionChoice,
    CaptionField,
    TextsByField,
    parse_caption_choice,
)
from bench.data.captions.reader import MAX_CAPTION_BYTES, CaptionReader
from bench.environment.seeds import CAPTION, derive_seed

TEXTS = st.lists(
    st.lists(st.text(st.characters(categories=["L"]), min_size=1), max_size=3).map(tuple),
    max_size=4,
)
JSON = {
    "llava": "by llava",
    "captions": ["one", None, "two"],
    "syn": {"syn_text": "nested"},
    "a.b": "with a dot",
}
SAMPLE = {
    "txt": "by text",
    "json": JSON,
    "syn.json": {"syn_text": ["synthetic"]},
}


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (None, [("", 1.0)]),
        ("caption", [("caption", 1.0)]),
        (" txt ; json.llava ", [("txt", 0.5), ("json.llava", 0.5)]),
        ("a:1;b:0", [("a", 1.0), ("b", 0.0)]),
        ("a : 0.25; b : 0.75", [("a", 0.25), ("b", 0.75)]),
        ("dc:title", [("dc:title", 1.0)]),
        ("a:.3;b:.3;c:.4", [("a", 0.3), ("b", 0.3), ("c", 0.4)]),
    ],
)
def test_choice_is_what_its_text_states(text: str | None, fields: list[tuple[str, float]]) -> None:
    assert parse_caption_choice(text) == CaptionChoice(
        tuple(CaptionField(*field) for field in fields)
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has a field without a name, or one twice; expected FIELD"),
        ("txt\udcff", "has a field without a name"),
        (":0.5;txt:0.5", "has a field without a name"),
        ("txt;txt", "or one twice"),
        ("txt:0.5;json.llava", "give no probability, or one from 0 to 1 of each field"),
        ("txt:0.5;json.llava:0.4", "which sum to 1"),
        ("txt:1.5;json.llava:-0.5", "from 0 to 1"),
    ],
)
def test_text_that_states_no_choice_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as error:
        parse_caption_choice(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "values", "texts"),
    [
        (None, SAMPLE, [("by text",)]),
        (None, {"json": {"url": "u", "Caption": "c", "text": "t"}}, [("c",)]),
        ("txt;json.llava", SAMPLE, [("by text",), ("by llava",)]),
        ("llava", SAMPLE, [("by llava",)]),
        ("json.captions", SAMPLE, [("one", "two")]),
        ("syn.json.syn_text;json.syn.syn_text", SAMPLE, [("synthetic",), ("nested",)]),
        ("json.a.b;a.b", SAMPLE, [("with a dot",), ("with a dot",)]),
        ("meta.alt;caption", {"meta": {"alt": "a"}, "caption": "c"}, [("a",), ("c",)]),
        ("meta.alt;caption", {"meta": None, "caption": "c"}, [(), ("c",)]),
        ("a;b", {"a": " ", "b": "text"}, [(), ("text",)]),
        ("a;b", {"a": " ", "b": None}, [(" ",), ()]),
        ("a", {"a": ["", "text"]}, [("text",)]),
    ],
)
def test_texts_of_a_sample_are_those_of_the_fields(
    text: str | None, values: dict[str, object], texts: list[tuple[str, ...]]
) -> None:
    assert CaptionReader(parse_caption_choice(text)).read(values) == tuple(texts)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (None, {"url": "u"}),
        (None, {"json": {"text": 7}}),
        ("json.none", SAMPLE),
        ("json.syn", SAMPLE),
        ("txt.none", SAMPLE),
        ("a", {"a": None}),
        ("a", {"a": []}),
        ("a", {"a": [None, 7]}),
        ("a", {"a": "x" * (MAX_CAPTION_BYTES + 1)}),
        ("a", {"a": ["é" * (MAX_CAPTION_BYTES // 2 + 1)]}),
    ],
)
def test_sample_without_a_text_has_none(text: str | None, values: dict[str, object]) -> None:
    assert not any(CaptionReader(parse_caption_choice(text)).read(values))


def drawn_slowly(
    choice: CaptionChoice, texts: TextsByField, seed: int, row: int, epoch: int
) -> str:
    """Draw a field among those with a text, then a text of it, from one uniform number; in exact fractions."""
    there = [
        (each, Fraction(field.probability))
        for each, field in zip(texts, choice.fields, strict=True)
        if each
    ]
    if not there:
        return ""
    total = sum(probability for _, probability in there)
    shares = [
        (each, probability / total if total else Fraction(not n))
        for n, (each, probability) in enumerate(there)
    ]
    uniform = Fraction(derive_seed(seed, CAPTION, row, epoch), 2**63)
    for each, share in shares:
        if uniform < share:
            return each[int(uniform / share * len(each))]
        uniform -= share
    raise AssertionError


@given(TEXTS, st.integers(0, 2**62), st.integers(0, 2**40), st.integers(0, 1000), st.data())
def test_draw_equals_a_slow_one(
    texts: list[tuple[str, ...]], seed: int, row: int, epoch: int, data: st.DataObject
) -> None:
    weights = data.draw(
        st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=len(texts), max_size=len(texts))
    )
    choice = CaptionChoice(tuple(CaptionField(str(n), weight) for n, weight in enumerate(weights)))
    assert choice.draw(tuple(texts), seed, row, epoch) == drawn_slowly(
        choice, tuple(texts), seed, row, epoch
    )
