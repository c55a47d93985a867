"""Vocabularies and their files."""

from collections import Counter

import pytest

from bench.data.pack import Pictures
from bench.data.rebuild.vocabularies import subword_vocabulary, synset_vocabulary
from bench.data.vocabulary import Vocabulary, count_labels, read_vocabulary, write_vocabulary
from bench.labels.corenet import corenet


def test_the_shipped_vocabularies_are_those_of_the_packs_captions(pictures: Pictures) -> None:
    assert read_vocabulary("pack-synsets") == synset_vocabulary(pictures.captions)
    assert read_vocabulary("pack-subwords") == subword_vocabulary(pictures.captions)
    assert len(read_vocabulary("pack-synsets").labels) == 681


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
    counts = Counter(key for keys in corenet().synsets(pictures.captions) for key in set(keys))
    vocabulary = read_vocabulary("pack-synsets")
    assert all(counts[label] == count for label, count in zip(vocabulary.labels, vocabulary.counts, strict=True))
