"""A batch of captions, and which column of a file they are in."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

import pyarrow as pa

from bench.config import choose

ROWS, BYTES = 65_536, 16 * 2**20  # a batch ends with the first of the two; it is also a row group of the labels
LONGEST_CAPTION = 4 * 2**20  # bytes; a longer one is skipped and counted
NULL, TOO_LONG = "null", f"longer than {LONGEST_CAPTION // 2**20} MiB"  # why a row has no caption
CAPTION_COLUMNS = ("caption", "captions", "text", "texts", "txt", "alt", "alt_text", "title", "description")
KEY_COLUMNS = ("key", "__key__", "uid", "sample_id")


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of a file. A row without a caption has a null, and what it lacks is counted in `flaws`."""

    keys: pa.StringArray
    captions: pa.BinaryArray  # not yet known to be text
    bytes_read: int  # of the file, so far
    flaws: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Rows:
    """Rows of a line-wise format, collected into batches; a key that is None becomes the number of its row."""

    keys: list[str] = field(default_factory=list)
    captions: list[bytes | None] = field(default_factory=list)
    flaws: Counter[str] = field(default_factory=Counter)
    num_bytes: int = 0
    before: int = 0  # rows of earlier batches

    def add(self, key: str | None, caption: bytes | None, flaw: str = "") -> None:
        """Add a row."""
        self.keys.append(str(self.before + len(self.keys)) if key is None else key)
        self.captions.append(caption)
        self.num_bytes += len(caption or b"")
        if flaw:
            self.flaws[flaw] += 1

    @property
    def full(self) -> bool:
        """Whether the batch has to end."""
        return len(self.keys) >= ROWS or self.num_bytes >= BYTES

    def take(self, bytes_read: int) -> Batch:
        """Return the batch and begin the next."""
        batch = Batch(pa.array(self.keys, pa.string()), pa.array(self.captions, pa.binary()), bytes_read, self.flaws)
        self.before += len(self.keys)
        self.keys, self.captions, self.flaws, self.num_bytes = [], [], Counter(), 0
        return batch


def caption_column(names: Sequence[str], asked: str | None) -> str:
    """Return the name of the captions' column; ValueError lists the columns and the likely one."""
    if asked is not None:
        return choose(asked, {name: name for name in names}, "column")
    if found := known_column(names, CAPTION_COLUMNS):
        return found
    lower = {name.lower(): name for name in names}
    near = [match for known in CAPTION_COLUMNS for match in get_close_matches(known, lower, n=1, cutoff=0.7)]
    near += [name for name in lower for known in CAPTION_COLUMNS if known in name]
    hint = f"; likely {lower[near[0]]!r}" if near else ""
    raise ValueError(
        f"no column has a name known for captions{hint}: name it with --column (there are {', '.join(names)})"
    )


def known_column(names: Sequence[str], known: Sequence[str]) -> str | None:
    """Return the first of the known names that is there, in any case."""
    lower = {name.lower(): name for name in reversed(names)}
    return next((lower[name] for name in known if name in lower), None)
