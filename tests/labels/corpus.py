"""Real text as captions: that of the pack, and other text on the machine."""

import inspect
import re
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from bench.data.pack import load_pack_images


def captions(cache: Path) -> list[str]:
    """Return distinct captions, in a fixed order."""
    sources = (
        load_pack_images("pretrain", cache).captions,
        debian(),
        python(),
        documentation(),
        glosses(),
    )
    return list(dict.fromkeys(text for source in sources for text in source if text.strip()))


def debian() -> Iterator[str]:
    """One-line descriptions of Debian's packages, the fields that hold other text (URLs, versions, tags)."""
    try:
        done = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, check=False)
    except FileNotFoundError:
        return
    text = done.stdout.decode(errors="replace")
    yield from re.findall(r"^Description: (.*)$", text, re.MULTILINE)
    for name in ("Homepage", "Depends", "Maintainer", "Tag"):
        yield from re.findall(rf"^{name}: (.*)$", text, re.MULTILINE)[::25]


def python() -> Iterator[str]:
    """Summaries and descriptions of the installed Python packages, docstrings of two of them."""
    for distribution in metadata.distributions():
        yield distribution.metadata["Summary"] or ""
        yield from (distribution.metadata.get_payload() or "").split("\n")
    for module in (np, torch, torch.nn):
        for name in dir(module):
            yield from (inspect.getdoc(getattr(module, name)) or "").split("\n\n")


def documentation() -> Iterator[str]:
    """Paragraphs of the files in /usr/share/doc."""
    for path in sorted(Path("/usr/share/doc").glob("*/*")):
        if path.is_file() and path.suffix not in {".gz", ".xz"}:
            yield from re.split(r"\n\s*\n", path.read_text(encoding="utf-8", errors="replace"))


def glosses() -> Iterator[str]:
    """WordNet's definitions with their examples, where the database is installed."""
    path = Path("/usr/share/wordnet/data.noun")
    if path.is_file():
        yield from (
            line.split("|")[1]
            for line in path.read_text(encoding="utf-8").split("\n")[29::2]
            if "|" in line
        )
