"""Refusals of data in three lines: what is there, what is missing, and the next command."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from shlex import quote

from bench.console.console import PROGRAM, UserError, escape_unprintable
from bench.data.columns import CAPTION_COLUMNS, IMAGE_ENDINGS, find_first_known_column
from bench.data.paths import UNREADABLE, iterate_files
from bench.data.sources.image_tables import find_possible_image_tables, read_image_table_layout
from bench.data.tables import FIRST_ROWS, open_table
from bench.environment.circumstances import CHECKOUT

URL_COLUMNS = ("url", "image_url", "img_url", "image_link", "link")
COUNTED_FILES = 10_000  # of data; the others are not looked at
EXAMPLES = quote(str(CHECKOUT / "docs" / "extensions"))
# In commands {stem} is the file without its suffix.
UNTAR = f"mkdir {{stem}} && tar -xf {{file}} -C {{stem}} && {PROGRAM} data {{stem}}"
SQLITE = f"{PROGRAM} --extension {EXAMPLES}/sqlite_rows.py data {{file}}"
DOWNLOAD = (
    "img2dataset --url_list {file} --input_format {format} --url_col {url} --caption_col {caption} "
    "--output_format webdataset --output_folder shards"
)
READER = "an extension that reads them: change the queries of the example for SQLite"


# What data lack by the endings of their files, and the command that helps: {stem} is a {file} without its {suffix}.
REMEDIES = {
    (".zip",): ("files outside of an archive", "unzip -q {file} -d {stem}"),
    (".tar.gz", ".tgz"): ("tars that are not compressed", "gunzip {file}"),
    (".tar",): ("image and caption of a sample that follow one another", UNTAR),
    (".bmp", ".tif", ".tiff", ".avif", ".heic"): (
        "images in a format that is read (jpg, jpeg, png, webp, gif)",
        "magick mogrify -format png {folder}/*{suffix}",
    ),
    (".sqlite",): ("the example of an extension that reads SQLite", SQLITE),
    (".mdb", ".h5", ".hdf5"): (READER, f"cp {EXAMPLES}/sqlite_rows.py my_source.py"),
}


def unread_data_error(data: str, readable_folder: str | None) -> UserError:
    """Return the error for data that no source reads; one of its folders may be readable."""
    paths = list(islice(iterate_files(data), COUNTED_FILES))
    counts = Counter(path.suffix.lower() for path in paths)
    files = [f"{count:,} {suffix or 'without suffix'}" for suffix, count in counts.most_common(3)]
    holds = "holds" if len(paths) < COUNTED_FILES else "holds at least"
    reason = f"data={data} {holds} {', '.join(files) or 'no file'}; no data source reads it"
    if readable_folder is None:
        return missing_part_error(reason, data, paths)
    command = f"{PROGRAM} data {quote(readable_folder)}"
    return _make_three_line_error(reason, "the name of one of its folders", command)


def missing_part_error(reason: str, data: str, paths: Sequence[Path]) -> UserError:
    """Return an error that says what the files of data lack, by their commonest ending, else by a table or image."""
    missing, command = _find_missing_part_and_command(data, paths)
    return _make_three_line_error(reason, missing, command)


def _find_missing_part_and_command(data: str, paths: Sequence[Path]) -> tuple[str, str]:
    files_by_endings = {
        endings: [path for path in paths if path.name.lower().endswith(endings)]
        for endings in REMEDIES
    }
    endings, files = max(files_by_endings.items(), key=lambda item: len(item[1]))
    if files:
        missing, command = REMEDIES[endings]
        return missing, _fill_command(command, files[0])
    tables = find_possible_image_tables(data)
    images = sorted(path for path in paths if path.suffix.lower() in IMAGE_ENDINGS)
    has_only_texts = not tables or tables[0].suffix == ".txt"  # texts come after other tables
    if images and has_only_texts:
        command = _fill_command("echo 'YOUR CAPTION' > {folder}/caption.txt", images[0])
        return "captions: a text beside each image, or one for a folder", command
    if tables:
        return _find_missing_part_of_table_and_command(tables[0])
    missing = "what a data source reads: the layouts of docs/data.md"
    return missing, f"cp {EXAMPLES}/zipped_pairs.py my_source.py"


def _make_three_line_error(reason: str, missing: str, command: str) -> UserError:
    lines = [reason, f"missing: {missing}", f"next: {command}   # docs/data.md"]
    return UserError("\n".join(map(escape_unprintable, lines)))


def _fill_command(command: str, path: Path, **columns: str) -> str:
    """Return a command with the quoted names of a file and of columns."""
    return command.format(
        file=quote(str(path)),
        folder=quote(str(path.parent)),
        stem=quote(str(path.with_suffix(""))),
        suffix=quote(path.suffix),
        **{name: quote(value) for name, value in columns.items()},
    )


def _find_missing_part_of_table_and_command(path: Path) -> tuple[str, str]:
    """Return what a table lacks whose images are not found, and the command that helps."""
    columns = None
    reason = ""
    try:
        with open_table(path) as table:
            list(islice(table.read_rows(table.text_columns), FIRST_ROWS))
            columns = table.columns
        read_image_table_layout(path, None)
    except UNREADABLE as error:
        reason = str(error).partition("\n")[0]
    if columns is None:
        return f"a table that can be read ({reason})", _fill_command("head -c 500 {file}", path)
    url = find_first_known_column(columns, URL_COLUMNS)
    if url is None:
        return reason, _fill_command("ln -s IMAGES {folder}/images", path)
    caption = find_first_known_column(columns, CAPTION_COLUMNS) or "CAPTION"
    kind = path.suffix.removeprefix(".")
    command = _fill_command(DOWNLOAD, path, url=url, caption=caption, format=kind)
    return f"the images of the column {url}", command
