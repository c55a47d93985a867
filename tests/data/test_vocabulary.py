"""The labels of CatLIP's released code."""

from collections import Counter

import pytest

from bench.data.pack import Pictures
from bench.data.rebuild.vocabularies import subword_vocabulary, synset_vocabulary
from bench.data.synsets import lexicon
from bench.data.vocabulary import Vocabulary, count_labels, read_vocabulary, write_vocabulary


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


def test_the_shipped_vocabularies_are_those_of_the_packs_captions(pictures: Pictures) -> None:
    assert read_vocabulary("pack-synsets") == synset_vocabulary(pictures.captions)
    assert read_vocabulary("pack-subwords") == subword_vocabulary(pictures.captions)
    assert len(read_vocabulary("pack-synsets").labels) == 678


def test_a_vocabulary_survives_its_file(tmp_path) -> None:
    vocabulary = count_labels([("b", "a"), ("a",), ("c",)], {"a": "an a"}, at_least=1)
    assert vocabulary == Vocabulary(("a", "b", "c"), ("an a", "b", "c"), (2, 1, 1))
    write_vocabulary(vocabulary, tmp_path / "v.tsv")
    assert read_vocabulary(str(tmp_path / "v.tsv")) == vocabulary
    (tmp_path / "bad.tsv").write_text("a\tb\tmany\n")
    with pytest.raises(ValueError, match=r"bad\.tsv, line 1: expected label, word and count"):
        read_vocabulary(str(tmp_path / "bad.tsv"))


def test_an_unknown_vocabulary_is_answered_with_what_there_is() -> None:
    with pytest.raises(ValueError, match="did you mean 'pack-synsets'"):
        read_vocabulary("pack-synset")
    with pytest.raises(ValueError, match="no vocabulary file"):
        read_vocabulary("/nowhere/x.tsv")


def test_every_label_of_the_vocabulary_is_counted_once_a_caption(pictures: Pictures) -> None:
    counts = Counter(label for caption in pictures.captions for label in set(lexicon().labels(caption)))
    vocabulary = read_vocabulary("pack-synsets")
    assert all(counts[label] == count for label, count in zip(vocabulary.labels, vocabulary.counts, strict=True))
