"""Refusals of data in three lines: what is there, what is missing, and the next command."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from shlex import quote

from bench.console.console import PROGRAM, UserError, escape_unprintable
from bench.data.columns import CAPTION_COLUMNS, IMAGE_ENDINGS, find_column
from bench.data.paths import UNREADABLE, compound_suffix, iterate_files
from bench.data.sources.image_tables import possible_tables, read_start
from bench.data.tables import FIRST_ROWS, open_table
from bench.environment.circumstances import CHECKOUT

COUNTED_FILES = 10_000  # of data; the others are not looked at
EXAMPLES = quote(str(CHECKOUT / "docs" / "extensions"))
URL_COLUMNS = ("url", "image_url", "img_url", "image_link", "link")
COMPRESSED = "tars that are not compressed"
FORMATS = "images in a format that is read (jpg, jpeg, png, webp, gif)"
TO_PNG = "magick mogrify -format png {folder}/*"
READER = "an extension that reads them: change the queries of the example for SQLite"
EXAMPLE = f"cp {EXAMPLES}/sqlite_rows.py my_source.py"
HEADER = "a header with the names of the columns"
# Endings of files, what is missing, and the command with {file}, its {folder}, and {stem}: the file without the ending.
REMEDIES = (
    (".zip", "files outside of an archive", "unzip -q {file} -d {stem}"),
    (".tar.gz", COMPRESSED, "gunzip {file}"),
    (".tgz", COMPRESSED, "gunzip {file}"),
    (
        ".tar",
        "image and caption of a sample that follow one another",
        f"mkdir {{stem}} && tar -xf {{file}} -C {{stem}} && {PROGRAM} data {{stem}}",
    ),
    (".bmp", FORMATS, f"{TO_PNG}.bmp"),
    (".tif", FORMATS, f"{TO_PNG}.tif"),
    (".tiff", FORMATS, f"{TO_PNG}.tiff"),
    (".avif", FORMATS, f"{TO_PNG}.avif"),
    (".heic", FORMATS, f"{TO_PNG}.heic"),
    (
        ".sqlite",
        "the example of an extension that reads SQLite",
        f"{PROGRAM} --extension {EXAMPLES}/sqlite_rows.py data {{file}}",
    ),
    (".mdb", READER, EXAMPLE),
    (".h5", READER, EXAMPLE),
    (".hdf5", READER, EXAMPLE),
    (".token", HEADER, "(printf 'image\\tcaption\\n'; sed 's/#[0-9]*//' {file}) > {stem}.tsv"),
)


def refuse(there: str, paths: Sequence[Path]) -> UserError:
    """Return the error for files of a layout that is known."""
    return _refuse(there, *_find_remedy(paths))


def refuse_unread(data: str, readable_folders: Sequence[str], sources: Sequence[str]) -> UserError:
    """Return the error for data that none of the named sources reads; some of their folders may be readable."""
    paths = list(islice(iterate_files(data), COUNTED_FILES))
    suffixes = Counter(compound_suffix(path) for path in paths)
    counts = [f"{count:,} {suffix}" for suffix, count in suffixes.most_common(3)]
    there = f"data={data} holds {', '.join(counts) or 'no file'}; no data source reads it"
    if readable_folders:
        command = f"{PROGRAM} data {quote(readable_folders[0])}"
        return _refuse(there, "the name of one of its folders", command)
    missing, command = _find_remedy(paths)
    if not missing:
        tables = possible_tables(data)
        images = sorted(path for path in paths if path.suffix.lower() in IMAGE_ENDINGS)
        if images and (not tables or tables[0].suffix == ".txt"):
            missing = "captions: a text beside each image, or one for a folder"
            command = f"echo 'a dog' > {quote(str(images[0].parent))}/caption.txt"
        elif tables:
            missing, command = _mend_table(tables[0])
        else:
            missing = f"what a data source reads: {', '.join(sources)}"
            command = f"cp {EXAMPLES}/zipped_pairs.py my_source.py"
    return _refuse(there, missing, command)


def _refuse(there: str, missing: str, command: str) -> UserError:
    lines = [there, f"missing: {missing}", f"next: {command}   # docs/data.md"]
    return UserError("\n".join(escape_unprintable(line) for line in lines))


def _find_remedy(paths: Sequence[Path]) -> tuple[str, str]:
    """Return what files lack and the command that helps; empty where their layout is not known."""
    for ending, missing, command in REMEDIES:
        for path in paths:
            if path.name.lower().endswith(ending):
                stem = quote(str(path)[: -len(ending)])
                folder = quote(str(path.parent))
                return missing, command.format(file=quote(str(path)), stem=stem, folder=folder)
    return "", ""


def _mend_table(path: Path) -> tuple[str, str]:
    """Return what a table lacks whose images are not found, and the command that helps."""
    file = quote(str(path))
    columns = list[str]()
    reason = ""
    try:
        with open_table(path) as table:
            list(islice(table.read_rows(table.texts), FIRST_ROWS))
            columns = table.columns
        read_start(path, None)
    except UNREADABLE as error:
        reason = str(error).splitlines()[0]
    if not columns:
        return f"a table that can be read ({reason})", f"head -c 500 {file}"
    header = ["image" if name.endswith(IMAGE_ENDINGS) else "caption" for name in columns]
    if "image" in header:
        names = ("\\t" if path.suffix == ".tsv" else ",").join(header)
        return HEADER, f"sed -i '1i {names}' {file}"
    url = find_column(columns, URL_COLUMNS)
    if url is None:
        return reason, f"ln -s IMAGES {quote(str(path.parent))}/images"
    caption = find_column(columns, CAPTION_COLUMNS) or "CAPTION"
    options = (
        f"--input_format {path.suffix[1:]} --url_col {quote(url)} --caption_col {quote(caption)}"
    )
    output = "--output_format webdataset --output_folder shards"
    return f"the images of the column {url}", f"img2dataset --url_list {file} {options} {output}"
