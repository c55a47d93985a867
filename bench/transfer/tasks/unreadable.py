"""Find the files that cannot be decoded: each file is tried once, and the result is cached."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import torch
from tqdm import tqdm

from bench.environment.files import atomic_write
from bench.transfer.tasks.pictures import BATCH, UnreadableImageError, format_some

MAX_UNREADABLE_SHARE = 0.01  # share of a data set's files; with more missing, its scores would be of another data set


def readable_rows(
    decode: Callable[[int], object], count: int, files: Sequence[Path], cache: Path, what: str, how: str = ""
) -> tuple[list[int], list[str]]:
    """Return the rows that `decode` can read, and a note on the rows for which it raises UnreadableImageError.

    The cached result is keyed by the paths, sizes and modification times of `files`, and by `how` they are decoded.
    Raises ValueError where more than one row in a hundred is unreadable; other errors of `decode` are passed on.
    """
    file = cache / f"unreadable-{_digest(files, how)}.json"
    if file.is_file():
        broken = msgspec.json.decode(file.read_bytes(), type=dict[int, str])
    else:
        broken = _broken(decode, count, what)
        with atomic_write(file) as temporary:
            temporary.write_bytes(msgspec.json.encode(broken))
    note = f"{what}: {len(broken):,} of {count:,} images cannot be read ({format_some([*broken.values()])})"
    if len(broken) > MAX_UNREADABLE_SHARE * count:
        raise ValueError(f"{note}: more than one in a hundred, so nothing is scored")
    return [row for row in range(count) if row not in broken], [f"{note}; they are left out"] if broken else []


def _broken(decode: Callable[[int], object], count: int, what: str) -> dict[int, str]:
    """Return the reason for each row that cannot be decoded."""

    def attempt(row: int) -> str | None:
        try:
            decode(row)
        except UnreadableImageError as error:
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
        status = path.stat()
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]
