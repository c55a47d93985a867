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


def write_example_folders() -> None:
    """Write KEY.webp and KEY.txt into `mine`, and {train,test}/CLASS/KEY.webp into `classes`."""
    if CAPTIONED.exists():
        sys.exit(f"{CAPTIONED} already exists: change to another folder")
    CAPTIONED.mkdir()
    for vendor in ("emojione", "fluent-3d", "fxemoji", "noto"):
        for path, image, text in iterate_shard_images(f"pretrain/{vendor}.tar.gz"):
            (CAPTIONED / path).write_bytes(image)
            caption_path = (CAPTIONED / path).with_suffix(".txt")
            caption_path.write_text(text["caption"], encoding="utf-8")
    labelled_images = iterate_shard_images("transfer/twemoji.tar.gz")
    for number, (path, image, text) in enumerate(labelled_images):
        split = "test" if number % 2 else "train"
        folder = LABELLED / split / text["label"]["group"]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(image)


def iterate_shard_images(shard_name: str) -> Iterator[tuple[str, bytes, dict[str, Any]]]:
    """Yield the file name, the encoded bytes and the JSON object of each image of a shard of the pack."""
    members = read_shard_members(PACK / shard_name)
    for name, content in members.items():
        key, _, suffix = name.rpartition(".")
        if suffix != "json":
            yield name, content, json.loads(members[f"{key}.json"])


if __name__ == "__main__":
    write_example_folders()
