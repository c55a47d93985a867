"""SQLite files with a table of images and captions: key, encoded image and text in the first columns that fit."""

import sqlite3
from pathlib import Path

from bench.data.columns import CAPTION_COLUMNS, IMAGE_COLUMNS, find_first_known_column
from bench.interfaces.data_source import DataSource, Samples
from bench.interfaces.extensions import Extension


class SqliteRows(DataSource):
    name = "SQLite files"

    def recognises(self, data):
        return Path(data).suffix in (".sqlite", ".sqlite3") and Path(data).is_file()

    def files(self, data):
        return [Path(data).absolute()]

    def open(self, data, request):
        return SqliteSamples(Path(data).absolute())


class SqliteSamples(Samples):
    def __init__(self, path):
        self.path = path
        self.database = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        for (table,) in self.database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table'"
        ):
            columns = [row[1] for row in self.database.execute(f'PRAGMA table_info("{table}")')]
            image = find_first_known_column(columns, IMAGE_COLUMNS)
            caption = find_first_known_column(columns, CAPTION_COLUMNS)
            if image and caption:
                break
        else:
            raise ValueError(f"{path}: no table has a column of images and one of captions")
        rows = f'SELECT rowid, "{caption}" FROM "{table}" ORDER BY rowid'  # noqa: S608
        self.rows = [(row, text) for row, text in self.database.execute(rows) if text is not None]
        self.query = f'SELECT "{image}" FROM "{table}" WHERE rowid = ?'  # noqa: S608

    def __reduce__(self):  # each loader worker opens the file itself
        return SqliteSamples, (self.path,)

    def __len__(self):
        return len(self.rows)

    def key(self, row):
        return str(self.rows[row][0])

    def image(self, row):
        return self.database.execute(self.query, (self.rows[row][0],)).fetchone()[0] or b""

    def caption(self, row):
        return self.rows[row][1]


EXTENSION = Extension(sources=[SqliteRows()])
