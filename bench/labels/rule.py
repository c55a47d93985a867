"""What a labelling rule is: captions in, label ids out."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa


@runtime_checkable
class Rule(Protocol):
    """A way to turn captions into labels. A label's id is its place in `keys`, the same in every process."""

    @property
    def name(self) -> str:
        """What `--rule` calls it; a vocabulary of one rule is refused by another."""
        ...

    @property
    def keys(self) -> Sequence[str]:
        """The key of every label that there can be: `n2084071`, or a subword's number in the tokenizer."""
        ...

    def title(self, label: int) -> str:
        """Return what a person reads for a label: `dog.n.01`, or the subword."""
        ...

    def gloss(self, label: int) -> str:
        """Return a sentence about a label, or nothing."""
        ...

    def label(self, captions: pa.StringArray) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
        """Label captions; a null is labelled as the empty one.

        Returns label ids [labels] and offsets [captions + 1]: caption i has ids[offsets[i] : offsets[i + 1]], in order
        of mention, each once or as often as the rule's source keeps them.
        """
        ...
