"""The rule of CatLIP's released code, over the shipped lexicon."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bench.data.synsets import lexicon


class CorenetRule:
    """Every token whose lemma heads a synset, whatever its part of speech."""

    name = "corenet"

    def __init__(self) -> None:
        self._lexicon = lexicon()
        word_of = {synset: lemma for lemma, synset in self._lexicon.synset_of.items()}
        self.keys = sorted(word_of, key=lambda synset: int(synset[1:]))
        self._titles = [f"{word_of[key]}.n.01" for key in self.keys]
        self._id = {key: place for place, key in enumerate(self.keys)}

    def title(self, label: int) -> str:
        """Return the synset's name."""
        return self._titles[label]

    def gloss(self, _label: int) -> str:
        """Return nothing: the lexicon has no glosses."""
        return ""

    def label(self, captions: pa.StringArray) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
        """Label captions, each synset once."""
        found = [[self._id[key] for key in self._lexicon.labels(text or "")] for text in captions.to_pylist()]
        ids = np.fromiter((label for row in found for label in row), np.uint32)
        return ids, np.cumsum([0, *map(len, found)], dtype=np.int64)
