"""The same captions in every format."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.data.shards import tar_bytes

FORMATS = ("parquet", "csv", "tsv", "jsonl", "txt", "tar")


def write_captions(path: Path, captions: Sequence[str]) -> Path:
    """Write captions, with keys k0, k1, … where the format has room for them."""
    keys = [f"k{number}" for number in range(len(captions))]
    suffix = path.name.split(".", 1)[1]
    if suffix == "parquet":
        pq.write_table(pa.table({"uid": keys, "width": [1] * len(keys), "caption": captions}), path)
        return path
    if suffix == "tar":
        content = tar_of_texts(
            {
                f"{key}.{kind}": text
                for key, text in zip(keys, captions, strict=True)
                for kind, text in (
                    ("jpg", "no image"),
                    ("txt", text),
                    ("json", json.dumps({"caption": "not this"})),
                )
            }
        )
    else:
        content = _text(suffix, keys, captions).encode("utf-8", "surrogatepass")
    path.write_bytes(content)
    return path


def tar_of_texts(members: dict[str, str]) -> bytes:
    return tar_bytes(
        {name: text.encode("utf-8", "surrogatepass") for name, text in members.items()}
    )


def _text(suffix: str, keys: Sequence[str], captions: Sequence[str]) -> str:
    rows = [{"key": key, "TEXT": caption} for key, caption in zip(keys, captions, strict=True)]
    if suffix == "jsonl":
        return "".join(f"{json.dumps(row)}\n" for row in rows)
    if suffix == "txt":
        return "".join(f"{caption}\n" for caption in captions)
    file = io.StringIO()
    writer = csv.writer(file, delimiter="\t" if suffix == "tsv" else ",", lineterminator="\n")
    writer.writerows(
        [["key", "TEXT"], *([key, caption] for key, caption in zip(keys, captions, strict=True))]
    )
    return file.getvalue()
