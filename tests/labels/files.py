"""The same captions in every format."""

import csv
import gzip
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

FORMATS = ("parquet", "csv", "tsv", "jsonl", "txt", "tar", "csv.gz", "jsonl.gz", "txt.gz", "tar.gz")


def write_captions(path: Path, captions: Sequence[str]) -> Path:
    """Write captions, with keys k0, k1, … where the format has room for them."""
    keys = [f"k{number}" for number in range(len(captions))]
    suffix = path.name.split(".", 1)[1].removesuffix(".gz")
    if suffix == "parquet":
        pq.write_table(pa.table({"uid": keys, "width": [1] * len(keys), "caption": captions}), path)
        return path
    content = io.BytesIO()
    if suffix == "tar":
        write_tar(
            content,
            {
                f"{key}.{kind}": text
                for key, text in zip(keys, captions, strict=True)
                for kind, text in (("jpg", "no image"), ("txt", text), ("json", json.dumps({"caption": "not this"})))
            },
        )
    else:
        content.write(_text(suffix, keys, captions).encode("utf-8", "surrogatepass"))
    path.write_bytes(gzip.compress(content.getvalue()) if path.suffix == ".gz" else content.getvalue())
    return path


def write_tar(file: io.BytesIO, members: dict[str, str]) -> None:
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, text in members.items():
            data = text.encode("utf-8", "surrogatepass")
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def tar_bytes(members: dict[str, str]) -> bytes:
    content = io.BytesIO()
    write_tar(content, members)
    return content.getvalue()


def _text(suffix: str, keys: Sequence[str], captions: Sequence[str]) -> str:
    rows = [{"key": key, "TEXT": caption} for key, caption in zip(keys, captions, strict=True)]
    if suffix == "jsonl":
        return "".join(f"{json.dumps(row)}\n" for row in rows)
    if suffix == "txt":
        return "".join(f"{caption}\n" for caption in captions)
    file = io.StringIO()
    writer = csv.writer(file, delimiter="\t" if suffix == "tsv" else ",", lineterminator="\n")
    writer.writerows([["key", "TEXT"], *([key, caption] for key, caption in zip(keys, captions, strict=True))])
    return file.getvalue()
