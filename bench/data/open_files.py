"""Files that stay open, so that one image is one `pread`: opening a file takes longer, above all on a network disk.

A descriptor has no position that is read, so forked processes share it, and spawned ones open the file anew.
"""

import os
import resource
import weakref
from functools import lru_cache
from pathlib import Path

# Of this cache.
MAX_OPEN_FILES = max(16, min(1024, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4))


class _SelfClosingDescriptor:
    """A descriptor, which is closed when nothing refers to it any more: another thread may be reading."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self.descriptor)


@lru_cache(MAX_OPEN_FILES)
def _open_or_reuse(path: Path, _version: str) -> _SelfClosingDescriptor:
    return _SelfClosingDescriptor(path)


def read_at(path: Path, file_version: str, offset: int, size: int) -> bytes:
    """Read `size` bytes of a file from `offset` on; ValueError if it has become shorter.

    A file that was replaced has another `file_version`, and is opened anew.
    """
    # This reference keeps it open while another thread replaces it in the cache.
    file = _open_or_reuse(path, file_version)
    content = os.pread(file.descriptor, size, offset)
    if len(content) != size:
        raise ValueError(f"{path} has become shorter since training began")
    return content
