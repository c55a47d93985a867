"""Batches of captions, and the column of a file that holds them."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

import pyarrow as pa

from bench.config import choose

ROWS, BYTES = 65_536, 16 * 2**20  # limits of a batch, which is also a row group of the labels
MAX_CAPTION_BYTES = 4 * 2**20  # bytes; a longer caption is skipped and counted
NULL, TOO_LONG = "null", f"longer than {MAX_CAPTION_BYTES // 2**20} MiB"  # why a row has no caption
CAPTION_COLUMNS = ("caption", "captions", "text", "texts", "txt", "alt", "alt_text", "title", "description")
KEY_COLUMNS = ("key", "__key__", "uid", "sample_id")


Row = tuple[str | None, bytes | None, str]  # key (None: the row's number), caption, and flaw or ""


@dataclass(frozen=True, slots=True)
class CaptionBatch:
    """Rows of a file. A row without a caption has a null, and its flaw is counted."""

    keys: pa.StringArray
    captions: pa.BinaryArray  # not yet validated as UTF-8
    bytes_read: int  # of the file, so far
    flaws: Counter[str] = field(default_factory=Counter)


def batched(rows: Iterable[Row], bytes_read: Callable[[], int]) -> Iterator[CaptionBatch]:
    """Collect rows into batches; a key that is None becomes the row's number, counted from 0."""
    numbered, is_last = enumerate(rows), False
    while not is_last:
        keys, captions, flaws, num_bytes = list[str](), list[bytes | None](), Counter[str](), 0
        for number, (key, caption, flaw) in numbered:
            keys.append(str(number) if key is None else key)
            captions.append(caption)
            num_bytes += len(caption or b"")
            if flaw:
                flaws[flaw] += 1
            if len(keys) >= ROWS or num_bytes >= BYTES:
                break
        else:
            is_last = True
        yield CaptionBatch(pa.array(keys, pa.string()), pa.array(captions, pa.binary()), bytes_read(), flaws)


def caption_column(names: Sequence[str], asked: str | None) -> str:
    """Return the name of the caption column; ValueError lists the columns and suggests one."""
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
    """Return the first known name among `names`, in any case."""
    lower = {name.lower(): name for name in reversed(names)}
    return next((lower[name] for name in known if name in lower), None)
