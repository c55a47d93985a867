"""The interface of labelling rules, and the type of the arrays that they return."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import pyarrow as pa

LABEL_LISTS = pa.list_(pa.field("element", pa.uint32(), nullable=False))


@runtime_checkable
class LabelRule(Protocol):
    """A mapping of captions to labels. A label's id is its index in `keys`, the same in every process."""

    name: str  # value of `--rule`; a vocabulary of another rule is refused

    @property
    def keys(self) -> Sequence[str]:
        """Keys of all possible labels: a synset (`n2084071`), or a subword's id in the tokenizer."""

    def title(self, label: int) -> str:
        """Return a label's readable name: `dog.n.01`, or the subword."""

    def gloss(self, label: int) -> str:
        """Return a label's definition, or an empty string."""

    def label_ids(self, captions: pa.StringArray) -> pa.ListArray:
        """Return the label ids of each caption, in order of mention, each once or repeated as in the rule's source.

        The type is `LABEL_LISTS`. A null is treated as an empty caption.
        """
