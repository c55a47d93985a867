"""Write images of the shipped pack as a user's own data: `python -m bench.data.example_images`.

docs/quickstart.md compares methods on them.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.data.manifest import PACK, read_shard_members

CAPTIONED = Path("mine")
LABELLED = Path("classes")


def main() -> None:
    """Write KEY.webp and KEY.txt into `mine`, and {train,test}/CLASS/KEY.webp into `classes`."""
    if CAPTIONED.exists():
        sys.exit(f"{CAPTIONED} already exists: change to another folder")
    CAPTIONED.mkdir()
    for vendor in ("emojione", "fluent-3d", "fxemoji", "noto"):
        for path, image, text in read_images(f"pretrain/{vendor}.tar.gz"):
            (CAPTIONED / path).write_bytes(image)
            (CAPTIONED / path).with_suffix(".txt").write_text(text["caption"], encoding="utf-8")
    for number, (path, image, text) in enumerate(read_images("transfer/twemoji.tar.gz")):
        folder = LABELLED / ("train", "test")[number % 2] / text["label"]["group"]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(image)


def read_images(shard: str) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
    """Yield the file name, the bytes and the JSON object of each image."""
    members = read_shard_members(PACK / shard)
    for name, content in members.items():
        key, _, suffix = name.rpartition(".")
        if suffix != "json":
            yield name, content, json.loads(members[f"{key}.json"])


if __name__ == "__main__":
    main()
