"""SuperClass's rule: the subwords of open_clip's tokenizer, without start, end and padding."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bench.labels.subwords import encoded, tokenizer


class Subword:
    """A label is the tokenizer's number, once a caption as in SuperClass's k-hot targets; 2 KiB are read."""

    name = "subword"

    def __init__(self) -> None:
        self._subword = tokenizer().decoder
        self.keys = [str(number) for number in range(len(self._subword))]

    def title(self, label: int) -> str:
        """Return the subword; `</w>` ends a word."""
        return str(self._subword[label])

    def gloss(self, _label: int) -> str:
        """Return nothing."""
        return ""

    def label(self, captions: pa.StringArray) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
        """Label captions."""
        found = [dict.fromkeys(encoded(text or "")) for text in captions.to_pylist()]
        ids = np.fromiter((label for row in found for label in row), np.uint32)
        return ids, np.cumsum([0, *map(len, found)], dtype=np.int64)
