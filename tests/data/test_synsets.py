"""The labels of CatLIP's released code."""

import pytest

from bench.data.synsets import lexicon


@pytest.mark.parametrize(
    ("caption", "lemmas"),
    [
        ("A dog and two Dogs", ["dog", "two"]),  # each once, in the order of first mention
        ("the women's knives", ["knife"]),  # women's is one token, no lemma
        ("glasses, mice; geese", ["glass", "mouse", "goose"]),
        ("photo of us", []),  # photo's first synset is photograph.n.01; us becomes u, which heads nothing
        ("white wolves", ["white", "wolf"]),
        ("", []),
        ("日本語 🐕", []),
    ],
)
def test_a_caption_gives_the_released_codes_labels(caption: str, lemmas: list[str]) -> None:
    assert list(lexicon().labels(caption)) == [lexicon().synset_of[lemma] for lemma in lemmas]


def test_offsets_are_wordnets_without_leading_zeros() -> None:
    """Three that apple/corenet's docstring and its released vocabulary give."""
    assert [lexicon().synset_of[word] for word in ("dog", "person", "image")] == ["n2084071", "n7846", "n5928118"]
