"""Labelling rules: the protocol that each implements, and all of them by the name that `--rule` takes."""

from collections.abc import Sequence
from functools import cache
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bench.config import choose

RULES = ("corenet", "corenet-nltk-3.8.1", "paper", "subword")


@runtime_checkable
class LabelRule(Protocol):
    """A mapping of captions to labels. A label's id is its index in `keys`, the same in every process."""

    name: str  # value of `--rule`; a vocabulary of one rule is refused by another
    keys: Sequence[str]  # of all possible labels: a synset (`n2084071`), or a subword's id in the tokenizer

    def title(self, label: int) -> str:
        """Return a label's readable name: `dog.n.01`, or the subword."""
        ...

    def gloss(self, label: int) -> str:
        """Return a label's definition, or an empty string."""
        ...

    def label(self, captions: pa.StringArray) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
        """Label captions; a null is treated as an empty caption.

        Returns label ids [labels] and offsets [captions + 1]: caption i has ids[offsets[i] : offsets[i + 1]], in order
        of mention, each once or repeated as in the rule's source.
        """
        ...


@cache
def get_rule(name: str) -> LabelRule:
    """Return a rule, loaded once per process; ValueError suggests the nearest name."""
    match choose(name, {rule: rule for rule in RULES}, "rule"):
        case "subword":
            from bench.labels.subwords import SubwordRule  # imports torch through open_clip

            return SubwordRule()
        case "paper":
            from bench.labels.paper import PaperRule

            return PaperRule()
        case _:
            from bench.labels.corenet import corenet, corenet_with_nltk_3_8

            return corenet() if name == "corenet" else corenet_with_nltk_3_8()
