"""The same captioned images in every layout that users have."""

import csv
import gzip
import io
import json
import shutil
import sqlite3
import zipfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

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


def write_files(
    folder: Path,
    samples: Sequence[Sample],
    members: Callable[[int, Sample], dict[str, Any]],
    others: dict[str, bytes] | None = None,
) -> Path:
    """Write files of each sample, and others beside them."""
    written = dict(others or {})
    for number, one in enumerate(samples):
        written |= members(number, one)
    for name, content in written.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_to_bytes(content))
    return folder


def parquet_bytes(rows: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


FILES: dict[str, Callable[[int, Sample], dict[str, Any]]] = {
    "kohya with .caption": lambda n, one: {
        f"10_dog/{n:04}.{one.suffix}": one.image,
        f"10_dog/{n:04}.caption": one.caption,
        f"10_dog/{n:04}.npz": b"PK\0\xff",
    },
    "one caption.txt per folder": lambda n, one: {
        f"{n:04}/1.{one.suffix}": one.image,
        f"{n:04}/caption.txt": one.caption,
    },
    "one caption.json per folder": lambda n, one: {
        f"{n:04}/1.{one.suffix}": one.image,
        f"{n:04}/caption.json": {"caption": one.caption},
    },
}


def write_img2dataset_files(folder: Path, samples: Sequence[Sample]) -> Path:
    """Write what `img2dataset --output_format files` does, with its table of URLs."""
    rows = [{"url": f"https://a.org/{n}.jpg", "key": f"{n:09}"} for n in range(len(samples))]
    others = {"00000.parquet": parquet_bytes(rows), "00000_stats.json": b'{"count": 12}'}
    members = TARS["img2dataset"]
    return write_files(
        folder,
        samples,
        lambda n, one: {f"00000/{name}": content for name, content in members(n, one).items()},
        others,
    )


def write_image_rows(folder: Path, samples: Sequence[Sample]) -> Path:
    """Write a Parquet file with bytes of images, as img2dataset does."""
    rows = [
        {"URL": f"https://a.org/{n}", "caption": one.caption, "jpg": one.image}
        for n, one in enumerate(samples)
    ]
    return write_files(folder, [], lambda *_: {}, {"00000.parquet": parquet_bytes(rows)})


def _llava(rows: list[tuple[str, str]]) -> str:
    """Return rows as LLaVA's files have them."""
    question = {"from": "human", "value": "<image>\nDescribe it."}
    return json.dumps(
        [
            {"id": name, "image": name, "conversations": [question, {"from": "gpt", "value": text}]}
            for name, text in rows
        ]
    )


def _lines(header: str, line: str) -> Callable[[list[tuple[str, str]]], str]:
    """Return what writes rows as lines."""
    return lambda rows: header + "".join(f"{line.format(*row)}\n" for row in rows)


# Name of the file, folder of the images, and the file's text from names and captions.
TEXTS: dict[str, tuple[str, str, Callable[[list[tuple[str, str]]], str]]] = {
    "LLaVA": ("llava.json", "images", _llava),
    "Flickr30k": (
        "results.csv",
        "flickr30k_images",
        _lines("image_name| comment_number| comment\n", "{}| 0| {}"),
    ),
    "Flickr8k of Kaggle": ("captions.txt", "Images", _lines("image,caption\n", '{},"{}"')),
    "open_clip": ("train.csv", "images", _lines("filepath\ttitle\n", "{}\t{}")),
    "columns of unknown names": ("pets.csv", "", _lines("foto;beschreibung\n", "{};{}")),
}


def write_text_table(
    folder: Path,
    samples: Sequence[Sample],
    name: str,
    images: str,
    text: Callable[[list[tuple[str, str]]], str],
) -> Path:
    """Write images and a text that names them with their captions."""
    names = write_images(folder / images, samples)
    rows = [(name, one.caption) for name, one in zip(names, samples, strict=True)]
    (folder / name).write_text(text(rows))
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


def write_zip(folder: Path, samples: Sequence[Sample]) -> None:
    with zipfile.ZipFile(folder / "pets.zip", "w") as archive:
        for number, one in enumerate(samples):
            archive.writestr(f"{number:04}.{one.suffix}", one.image)
            archive.writestr(f"{number:04}.txt", one.caption)


def write_other_images(folder: Path, samples: Sequence[Sample], suffix: str) -> None:
    """Write pairs whose images have a format that is not read."""
    for number, one in enumerate(samples):
        with Image.open(io.BytesIO(one.image)) as image:
            image.save(folder / f"{number:04}.{suffix}")
        (folder / f"{number:04}.txt").write_text(one.caption)


def write_sqlite(folder: Path, samples: Sequence[Sample]) -> None:
    with closing(sqlite3.connect(folder / "pets.sqlite")) as database, database:
        database.execute("CREATE TABLE pets (id INTEGER PRIMARY KEY, image BLOB, caption TEXT)")
        rows = [(one.image, one.caption) for one in samples]
        database.executemany("INSERT INTO pets (image, caption) VALUES (?, ?)", rows)


def write_apart(folder: Path, samples: Sequence[Sample]) -> None:
    """Write a tar in which all images come before all captions."""
    images = {f"{n:04}.{one.suffix}": one.image for n, one in enumerate(samples)}
    texts = {f"{n:04}.txt": one.caption.encode() for n, one in enumerate(samples)}
    write_shard(folder / "pets.tar", images | texts)


def write_packed_tar(folder: Path, samples: Sequence[Sample]) -> None:
    tars = write_tars(folder / "tars", samples, TARS["tars"])
    (folder / "0.tar.gz").write_bytes(gzip.compress((tars / "00000.tar").read_bytes()))
    shutil.rmtree(tars)


def write_urls(folder: Path, _samples: Sequence[Sample]) -> None:
    (folder / "pets.csv").write_text("url,caption\nhttps://a.org/1.jpg,a dog\n")


def write_lost_images(folder: Path, samples: Sequence[Sample]) -> None:
    """Write a table in one folder, and its images in another one."""
    write_table(folder / "table", samples, "pets.csv", images="../elsewhere/pets")


# What writes a layout, the data that are then named, what the refusal names as missing, and the data after the command
# that it names next; None where it needs a network or a library.
REFUSED: dict[str, tuple[Callable[[Path, Sequence[Sample]], object], str, str, str | None]] = {
    "zip": (write_zip, "", "files outside of an archive", "pets"),
    "bmp": (partial(write_other_images, suffix="bmp"), "", "images in a format that is read", ""),
    "SQLite": (write_sqlite, "", "the example of an extension that reads SQLite", "pets.sqlite"),
    "members apart": (
        write_apart,
        "",
        "image and caption of a sample that follow one another",
        "pets",
    ),
    "a compressed tar": (write_packed_tar, "", "tars that are not compressed", ""),
    "a DatasetDict": (
        lambda folder, samples: write_saved_dataset(folder / "train", samples),
        "",
        "the name of one of its folders",
        "train",
    ),
    "images alone": (
        lambda folder, samples: write_images(folder / "images", samples),
        "images",
        "captions: a text beside each image",
        "images",
    ),
    "URLs": (write_urls, "", "the images of the column url", None),
    "images elsewhere": (
        write_lost_images,
        "table",
        "the images of its column 'file_name'",
        "table",
    ),
    "HDF5": (
        lambda folder, _: (folder / "pets.h5").write_bytes(b"\x89HDF\r\n"),
        "",
        "an extension that reads them",
        None,
    ),
    "S3": (lambda *_: None, "s3://pets/train", "what a data source reads", None),
    "a pipe": (lambda *_: None, "pipe:touch x; cat 0.tar", "what a data source reads", None),
}
LAYOUTS: dict[str, Callable[[Path, Sequence[Sample]], Path]] = {
    **{name: partial(write_tars, members=members) for name, members in TARS.items()},
    **{name: partial(write_files, members=members) for name, members in FILES.items()},
    **{
        name: partial(write_text_table, name=file, images=images, text=text)
        for name, (file, images, text) in TEXTS.items()
    },
    "files of img2dataset": write_img2dataset_files,
    "Parquet of img2dataset": write_image_rows,
    "Parquet": write_parquet,
    "Parquet of bytes": partial(write_parquet, is_struct=False),
    "saved dataset": write_saved_dataset,
    "metadata.csv": partial(write_table, name="metadata.csv"),
    "metadata.jsonl": partial(write_table, name="metadata.jsonl"),
    "csv above a folder": partial(
        write_table, name="captions.csv", images="images", columns="image,caption"
    ),
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
