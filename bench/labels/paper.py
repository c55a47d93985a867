"""CatLIP's labels as its paper describes them (arXiv:2404.15653, section 3): synsets of the tokens tagged as nouns.

Cleaning, tokens, lemmas and synsets are those of `corenet`; a label is kept if its token is tagged NN, NNS, NNP or
NNPS. The tagger is NLTK's averaged perceptron, whose tags the released code computes and discards. It is pure Python:
1,000 to 2,000 captions/s on a core, compared with more than 100,000 captions/s of `corenet`.
"""

from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bench.labels.corenet import CorenetRule, is_noun
from bench.labels.lexicon import NOT_A_LABEL
from bench.labels.tokens import NLTK_3_10

Tag = Callable[[list[str]], list[tuple[str, str]]]  # tokens of a caption to pairs of token and tag
WEIGHTS = "averaged_perceptron_tagger_eng"


class PaperRule(CorenetRule):
    """CatLIP's labels from captions: WordNet nouns of the tokens that a tagger marks as nouns."""

    def __init__(self, tag: Tag | None = None) -> None:
        """Take a tagger, or load NLTK's; ValueError names the package or the weights to install."""
        super().__init__("paper")
        self._tag = tag or _nltk_tagger()

    def label(self, captions: pa.StringArray) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
        """Label captions; order and repeats are those of `corenet`."""
        rows = [self._labels(caption or "") for caption in captions.to_pylist()]
        offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        return np.array([label for row in rows for label in row], dtype=np.uint32), offsets

    def _tagged(self, caption: str) -> Iterable[tuple[str, str | None]]:
        return self._tag(NLTK_3_10(caption))

    def _labels(self, caption: str) -> list[int]:
        tokens = NLTK_3_10(caption)
        labels = [self.label_of(token) for token in tokens]
        if all(label == NOT_A_LABEL for label in labels):
            return []
        tagged = zip(labels, self._tag(tokens), strict=True)
        return [label for label, (_, tag) in tagged if label != NOT_A_LABEL and is_noun(tag)]


def _nltk_tagger() -> Tag:
    try:
        from nltk.tag.perceptron import PerceptronTagger

        tag: Tag = PerceptronTagger().tag
    except ImportError as error:
        raise ValueError("--rule paper tags words with NLTK: pip install -e '.[paper]'") from error
    except LookupError as error:
        raise ValueError(
            "--rule paper needs the weights of NLTK's tagger, which no Python package contains: "
            f"python -m nltk.downloader {WEIGHTS}"
        ) from error
    return tag
