"""Layouts of captioned images that no source reads: what converts or downloads each of them."""

import re
from itertools import chain
from pathlib import Path

import msgspec

from bench.console.console import describe_error
from bench.data.captions.batches import CAPTION_COLUMNS, find_column
from bench.data.captions.files import UNREADABLE
from bench.data.sample_index import IMAGES
from bench.data.sources.image_files import OUTSIDE
from bench.data.sources.image_tables import (
    CHECKED_TABLES,
    TableStart,
    possible_tables,
    read_table_start,
)
from bench.data.sources.listing import iterate_files
from bench.environment.files import read_limited
from bench.experiment.config import list_names

URL = re.compile(r"(?:pipe:|([a-z][a-z0-9+]*)://)", re.IGNORECASE)
DOWNLOADS = {
    "hf": "hf download --repo-type dataset OWNER/NAME --local-dir FOLDER",
    "s3": "aws s3 sync {} FOLDER",
    "gs": "gcloud storage rsync --recursive {} FOLDER",
    "http": "wget {}",
    "https": "wget {}",
}
FILE_SUFFIXES = tuple(f".{suffix}" for suffix in IMAGES.suffixes)
URL_COLUMNS = ("url", "image_url", "img_url", "urls")
WRITE = "write its samples as tar shards with webdataset.ShardWriter"


def advise_on_layout(data: str) -> str | None:
    """Return what data are that cannot be read, and how to convert them; None if that is not known."""
    if match := URL.match(data):
        return _advise_on_url(data, (match[1] or "").lower())
    if Path(data).is_dir() and (advice := _advise_on_index(Path(data) / "index.json")):
        return advice
    if (path := next(iterate_files(data, (".beton",)), None)) is not None:
        loader = f"ffcv.loader.Loader({str(path)!r}, batch_size=1, num_workers=1)"
        return f"{path.name} is a file of FFCV, whose pixels are not read: {WRITE}, reading them with {loader}"
    if not Path(data).is_dir() and next(iterate_files(data, FILE_SUFFIXES), None) is not None:
        return "images alone have no captions: name the folder that has them as KEY.jpg and KEY.txt"
    starts = [*map(_read_start, possible_tables(data)[:CHECKED_TABLES])]
    of_images = (_advise_on_images(start) for start in starts if isinstance(start, TableStart))
    return next(filter(None, chain(of_images, map(_advise_on_columns, starts))), None)


def _advise_on_url(data: str, scheme: str) -> str:
    if not scheme:
        command = data.partition(":")[2].strip()
        return f"a pipe is not read, commands in data are never executed: write what it prints: {command} > 00000.tar"
    if scheme == "hf" and (match := re.match(r"hf://datasets/([^/]+/[^/@]+)", data)):
        command = DOWNLOADS["hf"].replace("OWNER/NAME", match[1])
    else:
        command = DOWNLOADS.get(scheme, "a tool of its kind, as rclone copy").format(data)
    return f"only files on this machine are read: download them with: {command}"


def _advise_on_index(path: Path) -> str | None:
    """Return how to convert litData's and MosaicML's folders, which an index.json describes."""
    try:
        index = msgspec.json.decode(read_limited(path)) if path.is_file() else None
    except UNREADABLE:
        return None
    folder = str(path.parent)
    if isinstance(index, dict) and "chunks" in index:
        return f"a data set of litData is not read: {WRITE}, reading them with litdata.StreamingDataset({folder!r})"
    if isinstance(index, dict) and "shards" in index:
        loader = f"streaming.StreamingDataset(local={folder!r}, shuffle=False)"
        return f"a data set of MosaicML Streaming (MDS) is not read: {WRITE}, reading them with {loader}"
    return None


def _read_start(path: Path) -> TableStart | str:
    """Return the first rows of a table, or why it cannot be read."""
    try:
        return read_table_start(path)
    except UNREADABLE as error:
        return f"{path} cannot be read: {describe_error(error)}"


def _advise_on_images(start: TableStart) -> str | None:
    """Return how to get at the images that a table names, none of which is found."""
    path, images, url = start.path, start.images, find_column(start.columns, URL_COLUMNS)
    if images and images[0].startswith(("http://", "https://")):
        url = start.image_column
    if url is not None:
        kind = path.suffix[1:].lower()
        return (
            f"{path} has URLs of images: download them with: img2dataset --url_list {path} --input_format {kind} "
            f"--url_col {url} --caption_col CAPTION --output_format webdataset --output_folder FOLDER"
        )
    if images:
        return (
            f"{path} names images that are not there, such as {list_names(images[:1])}: their paths are relative to "
            f"its folder, to one in it or beside it, or absolute ({OUTSIDE} is not read)"
        )
    return None


def _advise_on_columns(start: TableStart | str) -> str | None:
    """Return how to mend a table that cannot be read, or without a column of images."""
    if isinstance(start, str):
        return start
    path, names = start.path, start.columns
    there = f"(there are {list_names(names)})"
    if any(name.lower().endswith(FILE_SUFFIXES) for name in names):
        return f"{path} has no header {there}: write a first line with the names of the columns, as image and caption"
    if not names:
        return None
    missing, remedy = "images", "rename that of the paths, or of the bytes in Parquet, to image"
    if find_column(names, CAPTION_COLUMNS) is None:
        missing, remedy = "images or captions", f"{remedy}, and that of the captions to caption (or name it: --caption)"
    return f"{path}: no column has a name known for {missing} {there}: {remedy}"
