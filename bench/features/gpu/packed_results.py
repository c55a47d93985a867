"""One file with the results of the steps of `gpu`, to carry away from a rented machine."""

import tarfile
from pathlib import Path

from bench.environment.files import atomic_write

PACKED = (".json", ".json.gz", ".html", ".log", ".txt")  # records, tables, traces, pages, output, keys of samples
LEFT_OUT = {"cache", "checkpoints", "shards"}  # names of folders


def pack_results(results: Path, file: Path) -> int:
    """Pack the records, pages and output in a folder and below it, without towers; return the number of files.

    The file is whole or absent. Unpacked, it is a folder of the same name, from which pages are drawn as before.
    """
    paths = [path for path in sorted(results.rglob("*")) if path.is_file() and _is_packed(path.relative_to(results))]
    with atomic_write(file) as temporary, tarfile.open(temporary, "w:gz") as tar:
        for path in paths:
            tar.add(path, Path(results.name, path.relative_to(results)))
    return len(paths)


def _is_packed(path: Path) -> bool:
    is_hidden = any(part.startswith(".") for part in path.parts)
    return path.name.endswith(PACKED) and not is_hidden and LEFT_OUT.isdisjoint(path.parts[:-1])
