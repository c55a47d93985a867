"""The shipped vocabularies, counted over the pack's captions: `python -m bench.data.rebuild.vocabularies`."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.data.pack import load_pictures
from bench.data.subwords import tokenizer
from bench.data.vocabulary import SHIPPED, Vocabulary, count_labels, write_vocabulary
from bench.labels.corenet import corenet
from bench.labels.lexicon import lexicon

FEWEST_CAPTIONS = 10  # that a synset must occur in; CatLIP took 500 of its 1.3 billion


def synset_vocabulary(captions: Sequence[str]) -> Vocabulary:
    """Return the WordNet synsets that enough captions name; a caption counts a synset once."""
    words = dict(zip(lexicon().keys, lexicon().lemmas, strict=True))
    named = (tuple(dict.fromkeys(keys)) for keys in corenet().synsets(captions))
    return count_labels(named, words, at_least=FEWEST_CAPTIONS)


def subword_vocabulary(captions: Sequence[str]) -> Vocabulary:
    """Return the tokenizer's subwords that occur at all; a label is the tokenizer's id."""
    words = {str(number): word for number, word in tokenizer().decoder.items()}
    encoded = (tuple(dict.fromkeys(map(str, tokenizer().encode(caption)))) for caption in captions)
    return count_labels(encoded, words, at_least=1)


def main() -> None:
    """Write both files into the checkout."""
    with tempfile.TemporaryDirectory() as cache:
        captions = load_pictures("pretrain", Path(cache)).captions
    write_vocabulary(synset_vocabulary(captions), SHIPPED / "pack-synsets.tsv")
    write_vocabulary(subword_vocabulary(captions), SHIPPED / "pack-subwords.tsv")


if __name__ == "__main__":
    main()
