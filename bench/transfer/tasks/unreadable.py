"""Which files cannot be decoded: all are tried once, and what was found is kept."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import torch
from tqdm import tqdm

from bench.environment.files import written_whole
from bench.transfer.tasks.pictures import BATCH, FilePictures, UnreadablePicture

MOST_UNREADABLE = 0.01  # share of a data set's files; where more are broken, its scores are of another data set
NAMED = 3


def unreadable(paths: Sequence[Path], cache: Path, what: str) -> dict[int, str]:
    """Return the rows of pictures that cannot be decoded, and why; ValueError for more than one in a hundred."""
    return undecodable(FilePictures(paths).rgb, len(paths), paths, cache, what)


def undecodable(
    decode: Callable[[int], object], count: int, files: Sequence[Path], cache: Path, what: str, how: str = ""
) -> dict[int, str]:
    """Return the rows for which `decode` raises UnreadablePicture, and why; what else it raises comes through.

    Kept in a file that is named by all paths, sizes and times of the files that it reads, and by `how` it reads them.
    Raises ValueError where they are more than one in a hundred.
    """
    file = cache / f"unreadable-{_digest(files, how)}.json"
    if file.is_file():
        found = msgspec.json.decode(file.read_bytes(), type=dict[int, str])
    else:
        found = _tried(decode, count, what)
        with written_whole(file) as temporary:
            temporary.write_bytes(msgspec.json.encode(found))
    if len(found) > MOST_UNREADABLE * count:
        raise ValueError(f"{told(found, count, what)}: more than one in a hundred, so nothing is scored")
    return found


def readable(
    decode: Callable[[int], object], count: int, files: Sequence[Path], cache: Path, what: str, how: str
) -> tuple[list[int], list[str]]:
    """Return the rows that are left without those that are `undecodable`, and what to tell of these."""
    broken = undecodable(decode, count, files, cache, what, how)
    notes = [f"{told(broken, count, what)}; they are left out"] if broken else []
    return [row for row in range(count) if row not in broken], notes


def told(found: dict[int, str], total: int, what: str) -> str:
    """Say how many cannot be decoded, and name the first."""
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return f"{what}: {len(found):,} of {total:,} images cannot be read ({'; '.join([*found.values()][:NAMED])}{more})"


def _tried(decode: Callable[[int], object], count: int, what: str) -> dict[int, str]:
    def attempt(row: int) -> str | None:
        try:
            decode(row)
        except UnreadablePicture as error:
            return str(error)
        return None

    found = dict[int, str]()
    with ThreadPoolExecutor(torch.get_num_threads()) as pool, tqdm(total=count, desc=what, unit=" images") as bar:
        for first in range(0, count, BATCH):
            rows = range(first, min(first + BATCH, count))
            found |= {row: why for row, why in zip(rows, pool.map(attempt, rows), strict=True) if why is not None}
            bar.update(len(rows))
    return found


def _digest(paths: Sequence[Path], how: str) -> str:
    digest = hashlib.sha256(how.encode())
    for path in paths:
        found = path.stat()
        digest.update(f"{path}\0{found.st_size}\0{found.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]
