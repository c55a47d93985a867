"""Refusals of data in three lines: what is there, what is missing, and the next command."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from shlex import quote

from bench.console.console import PROGRAM, UserError, escape_unprintable
from bench.data.columns import CAPTION_COLUMNS, IMAGE_ENDINGS, find_column
from bench.data.paths import UNREADABLE, compound_suffix, iterate_files
from bench.data.sources.image_tables import find_possible_tables, read_table_layout
from bench.data.tables import FIRST_ROWS, open_table
from bench.environment.circumstances import CHECKOUT

COUNTED_FILES = 10_000  # of data; the others are not looked at
EXAMPLES = quote(str(CHECKOUT / "docs" / "extensions"))
URL_COLUMNS = ("url", "image_url", "img_url", "image_link", "link")
# Commands name {file}, its {folder} and {suffix}, and {stem}: the file without its suffix.
UNTAR = f"mkdir {{stem}} && tar -xf {{file}} -C {{stem}} && {PROGRAM} data {{stem}}"
SQLITE = f"{PROGRAM} --extension {EXAMPLES}/sqlite_rows.py data {{file}}"
TOKENS = r"(printf 'image\tcaption\n'; sed 's/#[0-9]*//' {file}) > {stem}.tsv"
DOWNLOAD = (
    "img2dataset --url_list {file} --input_format {format} --url_col {url} --caption_col {caption} "
    "--output_format webdataset --output_folder shards"
)
READER = "an extension that reads them: change the queries of the example for SQLite"
FORMATS = "images in a format that is read (jpg, jpeg, png, webp, gif)"
HEADER = "a header with the names of the columns"
# Endings of files, what is missing, and the next command.
REMEDIES = (
    ((".zip",), "files outside of an archive", "unzip -q {file} -d {stem}"),
    ((".tar.gz", ".tgz"), "tars that are not compressed", "gunzip {file}"),
    ((".tar",), "image and caption of a sample that follow one another", UNTAR),
    (
        (".bmp", ".tif", ".tiff", ".avif", ".heic"),
        FORMATS,
        "magick mogrify -format png {folder}/*{suffix}",
    ),
    ((".sqlite",), "the example of an extension that reads SQLite", SQLITE),
    ((".mdb", ".h5", ".hdf5"), READER, f"cp {EXAMPLES}/sqlite_rows.py my_source.py"),
    ((".token",), HEADER, TOKENS),
)


def unread_data_error(data: str, readable_folder: str | None) -> UserError:
    """Return the error for data that no source reads; one of its folders may be readable."""
    paths = list(islice(iterate_files(data), COUNTED_FILES))
    counts = Counter(compound_suffix(path) for path in paths).most_common(3)
    held = ", ".join(f"{count:,} {suffix}" for suffix, count in counts)
    there = f"data={data} holds {held or 'no file'}; no data source reads it"
    if readable_folder is None:
        return missing_part_error(there, data, paths)
    command = f"{PROGRAM} data {quote(readable_folder)}"
    return _to_error(there, "the name of one of its folders", command)


def missing_part_error(there: str, data: str, paths: Sequence[Path]) -> UserError:
    """Return the error for files by their endings, else by the first table or image."""
    for endings, missing, command in REMEDIES:
        for path in paths:
            if path.name.lower().endswith(endings):
                return _to_error(there, missing, _fill(command, path))
    tables = find_possible_tables(data)
    images = sorted(path for path in paths if path.suffix.lower() in IMAGE_ENDINGS)
    if images and (not tables or tables[0].suffix == ".txt"):
        missing = "captions: a text beside each image, or one for a folder"
        return _to_error(there, missing, _fill("echo 'a dog' > {folder}/caption.txt", images[0]))
    if tables:
        return _to_error(there, *_mend_table(tables[0]))
    missing = "what a data source reads: the layouts of docs/data.md"
    return _to_error(there, missing, f"cp {EXAMPLES}/zipped_pairs.py my_source.py")


def _to_error(there: str, missing: str, command: str) -> UserError:
    lines = [there, f"missing: {missing}", f"next: {command}   # docs/data.md"]
    return UserError("\n".join(escape_unprintable(line) for line in lines))


def _fill(command: str, path: Path, **columns: str) -> str:
    """Return a command with the names of a file and of columns."""
    stem = path.with_suffix("")
    names = {"file": path, "folder": path.parent, "stem": stem, "suffix": path.suffix, **columns}
    return command.format(**{name: quote(str(value)) for name, value in names.items()})


def _mend_table(path: Path) -> tuple[str, str]:
    """Return what a table lacks whose images are not found, and the command that helps."""
    columns = list[str]()
    reason = ""
    try:
        with open_table(path) as table:
            list(islice(table.read_rows(table.texts), FIRST_ROWS))
            columns = table.columns
        read_table_layout(path, None)
    except UNREADABLE as error:
        reason = str(error).partition("\n")[0]
    if not columns:
        return f"a table that can be read ({reason})", _fill("head -c 500 {file}", path)
    header = ["image" if name.endswith(IMAGE_ENDINGS) else "caption" for name in columns]
    if "image" in header:
        names = ("\\t" if path.suffix == ".tsv" else ",").join(header)
        return HEADER, _fill(f"sed -i '1i {names}' {{file}}", path)
    url = find_column(columns, URL_COLUMNS)
    if url is None:
        return reason, _fill("ln -s IMAGES {folder}/images", path)
    caption = find_column(columns, CAPTION_COLUMNS) or "CAPTION"
    command = _fill(DOWNLOAD, path, url=url, caption=caption, format=path.suffix[1:])
    return f"the images of the column {url}", command
