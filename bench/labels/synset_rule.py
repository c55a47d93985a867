"""What rules have in common whose labels are WordNet's noun synsets: the labels' keys, names and definitions."""

from collections.abc import Sequence

from bench.labels.lexicon import lexicon


class SynsetRule:
    """Names labels as the lexicon does."""

    def __init__(self) -> None:
        self._lexicon = lexicon()

    @property
    def keys(self) -> Sequence[str]:
        """Synsets that can be labels, `n2084071`."""
        return self._lexicon.keys

    def title(self, label: int) -> str:
        """Return a synset's name: `dog.n.01`."""
        return self._lexicon.title(label)

    def gloss(self, label: int) -> str:
        """Return WordNet's definition of a synset."""
        return self._lexicon.gloss(label)
