"""CatLIP's labels as its paper tells them (arXiv:2404.15653, section 3): synsets of the tokens tagged as nouns.

Cleaning, tokens, lemmas and synsets are those of `corenet`; a label is kept where its token is tagged NN, NNS, NNP or
NNPS. The tagger is NLTK's averaged perceptron, whose tags the released code computes and throws away: pure Python, one
to two thousand captions a second on a core, against hundreds of thousands for `corenet`.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bench.labels.corenet import corenet
from bench.labels.explain import ExplainedToken, explained, is_noun
from bench.labels.lexicon import NOT_A_LABEL
from bench.labels.synset_rule import SynsetRule
from bench.labels.tokens import NLTK_3_10

Tag = Callable[[list[str]], list[tuple[str, str]]]  # tokens of a caption to themselves and their tags
WEIGHTS = "averaged_perceptron_tagger_eng"


class PaperRule(SynsetRule):
    """CatLIP's labels from captions: WordNet nouns of the tokens that a tagger takes for nouns."""

    name = "paper"

    def __init__(self, tag: Tag | None = None) -> None:
        """Take a tagger, or load NLTK's; ValueError tells what to install where that or its weights are missing."""
        super().__init__()
        self._tag = tag or _nltk_tagger()
        self._corenet = corenet()

    def label(self, captions: pa.StringArray) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
        """Label captions; repeats and order as in `corenet`."""
        rows = [self._labels(caption or "") for caption in captions.to_pylist()]
        offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        return np.array([label for row in rows for label in row], dtype=np.uint32), offsets

    def explain(self, caption: str) -> list[ExplainedToken]:
        """Return what became of each token of a caption, in order."""
        return explained(self._tag(NLTK_3_10(caption)), self._lexicon)

    def _labels(self, caption: str) -> list[int]:
        tokens = NLTK_3_10(caption)
        labels = [self._corenet.label_of(token) for token in tokens]
        if all(label == NOT_A_LABEL for label in labels):
            return []
        tagged = zip(labels, self._tag(tokens), strict=True)
        return [label for label, (_, tag) in tagged if label != NOT_A_LABEL and is_noun(tag)]


def _nltk_tagger() -> Tag:
    try:
        from nltk.tag.perceptron import PerceptronTagger
    except ImportError as error:
        raise ValueError("--rule paper tags words with NLTK: pip install -e '.[paper]'") from error
    try:
        tag: Tag = PerceptronTagger().tag
    except LookupError as error:
        raise ValueError(
            "--rule paper needs the weights of NLTK's tagger, which no Python package carries: "
            f"python -m nltk.downloader {WEIGHTS}"
        ) from error
    return tag
