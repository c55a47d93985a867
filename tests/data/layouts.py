"""The same captioned images in every layout that users have."""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.data.shards import write_shard
from tests.photographs import PHOTOGRAPHS, crop

HF_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@dataclass(frozen=True)
class Sample:
    """An encoded image and its caption."""

    image: bytes
    caption: str
    suffix: str = "jpg"


def photographs(count: int) -> list[Sample]:
    """Crops of photographs with their captions."""
    names = [*PHOTOGRAPHS]
    return [
        Sample(
            crop(names[number % len(names)], number),
            f"{PHOTOGRAPHS[names[number % len(names)]][1]}, view {number}",
        )
        for number in range(count)
    ]


def write_tars(
    folder: Path, samples: Sequence[Sample], members: Callable[[int, Sample], dict[str, Any]]
) -> Path:
    """Write two shards; the members of a sample are texts, bytes or what is encoded as JSON."""
    folder.mkdir()
    half = len(samples) // 2
    for shard, first, last in ((0, 0, half), (1, half, len(samples))):
        found = chain(*(members(number, samples[number]).items() for number in range(first, last)))
        write_shard(
            folder / f"{shard:05}.tar", {name: _to_bytes(content) for name, content in found}
        )
    return folder


def _to_bytes(content: Any) -> bytes:
    if isinstance(content, bytes):
        return content
    return content.encode() if isinstance(content, str) else json.dumps(content).encode()


TARS: dict[str, Callable[[int, Sample], dict[str, Any]]] = {
    "tars": lambda n, one: {f"{n:04}.{one.suffix}": one.image, f"{n:04}.txt": one.caption},
    "img2dataset": lambda n, one: {
        f"{n:09}.{one.suffix}": one.image,
        f"{n:09}.json": {"caption": one.caption, "url": "x", "status": "success"},
        f"{n:09}.txt": one.caption,
    },
    "capital suffixes": lambda n, one: {
        f"{n:04}.{one.suffix.upper()}": one.image,
        f"{n:04}.TXT": one.caption,
    },
    "nested paths": lambda n, one: {
        f"a/{n:04}.{one.suffix}": one.image,
        f"a/{n:04}.txt": one.caption,
    },
    "several JSON captions": lambda n, one: {
        f"{n:04}.{one.suffix}": one.image,
        f"{n:04}.json": {"llava": "a scene", "caption": one.caption},
    },
    "lists of captions in JSON": lambda n, one: {
        f"{n:04}.{one.suffix}": one.image,
        f"{n:04}.json": {"captions": [one.caption]},
    },
    "DataCompDR": lambda n, one: {
        f"{n:04}.{one.suffix}": one.image,
        f"{n:04}.txt": one.caption,
        f"{n:04}.syn.json": {"syn_text": ["a scene"]},
        f"{n:04}.paug.json": {"param_aug": "x"},
        f"{n:04}.npz": b"PK",
        f"{n:04}.pth.gz": b"\x1f\x8b",
    },
}


def write_parquet(
    folder: Path, samples: Sequence[Sample], *, is_struct: bool = True, **options: Any
) -> Path:
    """Write two Parquet files of the hub's names; by default as `datasets` does, with 100 rows in a row group."""
    folder.mkdir()
    half = len(samples) // 2
    for shard, part in enumerate((samples[:half], samples[half:])):
        images = [
            {"bytes": one.image, "path": f"{n}.{one.suffix}"} if is_struct else one.image
            for n, one in enumerate(part)
        ]
        kind = HF_IMAGE if is_struct else pa.binary()
        table = pa.table(
            {"image": pa.array(images, kind), "caption": [one.caption for one in part]}
        )
        pq.write_table(
            table,
            folder / f"train-{shard:05}-of-00002.parquet",
            **{"row_group_size": 100} | options,
        )
    return folder


def write_saved_dataset(folder: Path, samples: Sequence[Sample]) -> Path:
    """Write what `datasets.Dataset.save_to_disk` does: Arrow streams and their list."""
    folder.mkdir()
    names, half = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"], len(samples) // 2
    for name, part in zip(names, (samples[:half], samples[half:]), strict=True):
        images = pa.array([{"bytes": one.image, "path": None} for one in part], HF_IMAGE)
        table = pa.table({"image": images, "caption": [one.caption for one in part]})
        with pa.ipc.new_stream(folder / name, table.schema) as writer:
            writer.write_table(table, max_chunksize=3)
    (folder / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": name} for name in names]})
    )
    (folder / "dataset_info.json").write_text("{}")
    return folder


def write_images(folder: Path, samples: Sequence[Sample]) -> list[str]:
    """Write the images, and return their names."""
    folder.mkdir(parents=True)
    names = [f"{number:04}.{one.suffix}" for number, one in enumerate(samples)]
    for name, one in zip(names, samples, strict=True):
        (folder / name).write_bytes(one.image)
    return names


def write_pairs(folder: Path, samples: Sequence[Sample], *, is_json: bool = False) -> Path:
    """Write KEY.jpg and KEY.txt, or KEY.json."""
    for name, one in zip(write_images(folder, samples), samples, strict=True):
        path = (folder / name).with_suffix(".json" if is_json else ".txt")
        path.write_bytes(_to_bytes({"caption": one.caption} if is_json else one.caption))
    return folder


def write_table(
    folder: Path,
    samples: Sequence[Sample],
    name: str,
    images: str = "",
    columns: str = "file_name,caption",
    delimiter: str = ",",
) -> Path:
    """Write images and a table beside them, or above their folder."""
    paths, (path, text) = write_images(folder / images, samples), columns.split(",")
    rows = [{path: file, text: one.caption} for file, one in zip(paths, samples, strict=True)]
    table, kind = folder / name, Path(name).suffix
    if kind in (".csv", ".tsv"):
        with table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [path, text], delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
    elif kind == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), table)
    else:
        table.write_text("\n".join(map(json.dumps, rows)))
    return folder


def write_coco(folder: Path, samples: Sequence[Sample]) -> Path:
    """Write the layout of COCO's captions: annotations beside a folder of images."""
    names = write_images(folder / "train2017", samples)
    images = [{"id": number, "file_name": name, "height": 1} for number, name in enumerate(names)]
    captions = [{"id": n, "image_id": n, "caption": one.caption} for n, one in enumerate(samples)]
    (folder / "annotations").mkdir()
    content = {"info": {}, "images": images, "annotations": captions}
    (folder / "annotations" / "captions_train2017.json").write_text(json.dumps(content))
    return folder


LAYOUTS: dict[str, Callable[[Path, Sequence[Sample]], Path]] = {
    **{name: partial(write_tars, members=members) for name, members in TARS.items()},
    "Parquet": write_parquet,
    "Parquet of bytes": partial(write_parquet, is_struct=False),
    "Parquet, zstd": partial(write_parquet, compression="zstd", use_dictionary=False),
    "saved dataset": write_saved_dataset,
    "metadata.csv": partial(write_table, name="metadata.csv"),
    "metadata.jsonl": partial(write_table, name="metadata.jsonl"),
    "csv above a folder": partial(
        write_table, name="captions.csv", images="images", columns="image,caption"
    ),
    "csv with semicolons": partial(write_table, name="captions.csv", delimiter=";"),
    "tsv": partial(write_table, name="captions.tsv", columns="filepath,title", delimiter="\t"),
    "Parquet of paths": partial(
        write_table, name="pairs.parquet", images="images", columns="image_path,text"
    ),
    "COCO": write_coco,
    "pairs": write_pairs,
    "pairs with JSON": partial(write_pairs, is_json=True),
}

# One each.
SOURCE_LAYOUTS = {
    name: LAYOUTS[name] for name in ("tars", "Parquet", "saved dataset", "metadata.csv", "pairs")
}
