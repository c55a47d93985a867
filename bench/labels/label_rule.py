"""The interface of labelling rules, and the arrays that they return."""

from collections.abc import Collection, Sequence
from itertools import chain
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

LabelIds = npt.NDArray[np.uint32]  # label ids of consecutive captions, concatenated
Offsets = npt.NDArray[np.int64]  # [captions + 1]: caption i has ids[offsets[i] : offsets[i + 1]]


@runtime_checkable
class LabelRule(Protocol):
    """A mapping of captions to labels. A label's id is its index in `keys`, the same in every process."""

    name: str  # value of `--rule`; a vocabulary of another rule is refused
    # Keys of all possible labels: a synset (`n2084071`), or a subword's id in the tokenizer.
    keys: Sequence[str]

    def title(self, label: int) -> str:
        """Return a label's readable name: `dog.n.01`, or the subword."""

    def gloss(self, label: int) -> str:
        """Return a label's definition, or an empty string."""

    def label(self, captions: pa.StringArray) -> tuple[LabelIds, Offsets]:
        """Label captions; a null is treated as an empty caption.

        Returns label ids [labels] and offsets [captions + 1]. A caption's ids are in order of mention, each once or
        repeated as in the rule's source.
        """


def concatenate_rows(rows: Sequence[Collection[int]]) -> tuple[LabelIds, Offsets]:
    """Return the labels of captions as an array of ids and one of offsets, as `LabelRule.label` does."""
    ids = np.fromiter(chain.from_iterable(rows), np.uint32)
    return ids, np.cumsum([0, *map(len, rows)], dtype=np.int64)
