"""The error for data that no source reads: what they hold, and what is wrong with their first table or images."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from bench.console.console import UserError, escape_unprintable
from bench.data.columns import IMAGE_ENDINGS
from bench.data.paths import UNREADABLE, compound_suffix, iterate_files
from bench.data.sources.image_tables import find_possible_image_tables, read_image_table_layout

COUNTED_FILES = 10_000  # of data; the others are not looked at
WITHOUT_CAPTIONS = (
    "its images have no captions: write a text beside each image, or a caption.txt for a folder"
)
REMEDY = "docs/data.md lists the layouts that are read, and the commands that convert other layouts"


def unread_data_error(data: str, readable_folder: str | None) -> UserError:
    """Return the error for data that no source reads; one of its folders may be readable."""
    paths = list(islice(iterate_files(data), COUNTED_FILES))
    counts = Counter(compound_suffix(path) for path in paths)
    files = [f"{count:,} {suffix}" for suffix, count in counts.most_common(3)]
    lines = [f"data={data} holds {', '.join(files) or 'no file'}; no data source reads it"]
    if readable_folder is not None:
        lines.append(f"name one of its folders, such as {readable_folder}")
    else:
        lines += [*_find_flaw(data, paths), REMEDY]
    return UserError("\n".join(map(escape_unprintable, lines)))


def _find_flaw(data: str, paths: Sequence[Path]) -> list[str]:
    """Return what is wrong with the first table of data, or with images that no table names; empty if not known."""
    has_images = any(path.suffix.lower() in IMAGE_ENDINGS for path in paths)
    tables = find_possible_image_tables(data)
    if has_images and (not tables or tables[0].suffix == ".txt"):
        return [WITHOUT_CAPTIONS]
    if tables:
        try:
            read_image_table_layout(tables[0], None)
        except UNREADABLE as error:
            reason = str(error).partition("\n")[0]
            return [f"{tables[0]}: {reason}"]
    return []
