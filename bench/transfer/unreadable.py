"""Which files cannot be decoded: all are tried once, and what was found is kept."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import torch
from tqdm import tqdm

from bench.transfer.pictures import BATCH, FilePictures, UnreadablePicture
from bench.whole_file import written_whole

MOST_UNREADABLE = 0.01  # share of a data set's files; where more are broken, its scores are of another data set
NAMED = 3


def unreadable(paths: Sequence[Path], cache: Path, what: str) -> dict[int, str]:
    """Return the rows that cannot be decoded, and why; kept in a file that is named by all paths, sizes and times.

    Raises ValueError where they are more than one in a hundred.
    """
    file = cache / f"unreadable-{_digest(paths)}.json"
    if file.is_file():
        found = msgspec.json.decode(file.read_bytes(), type=dict[int, str])
    else:
        found = _tried(paths, what)
        with written_whole(file) as temporary:
            temporary.write_bytes(msgspec.json.encode(found))
    if len(found) > MOST_UNREADABLE * len(paths):
        raise ValueError(f"{told(found, len(paths), what)}: more than one in a hundred, so nothing is scored")
    return found


def told(found: dict[int, str], total: int, what: str) -> str:
    """Say how many cannot be decoded, and name the first."""
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return f"{what}: {len(found):,} of {total:,} images cannot be read ({'; '.join([*found.values()][:NAMED])}{more})"


def _tried(paths: Sequence[Path], what: str) -> dict[int, str]:
    pictures = FilePictures(paths)

    def attempt(row: int) -> str | None:
        try:
            pictures.rgb(row)
        except UnreadablePicture as error:
            return str(error)
        return None

    found = dict[int, str]()
    with ThreadPoolExecutor(torch.get_num_threads()) as pool, tqdm(total=len(paths), desc=what, unit=" images") as bar:
        for first in range(0, len(paths), BATCH):
            rows = range(first, min(first + BATCH, len(paths)))
            found |= {row: why for row, why in zip(rows, pool.map(attempt, rows), strict=True) if why is not None}
            bar.update(len(rows))
    return found


def _digest(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        found = path.stat()
        digest.update(f"{path}\0{found.st_size}\0{found.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]
