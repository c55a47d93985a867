"""A folder with pairs.zip, in which KEY.jpg and KEY.txt (its caption) are beside each other."""

import zipfile
from pathlib import Path

from bench.interfaces.data_source import DataSource, Samples
from bench.interfaces.extensions import Extension

ARCHIVE = "pairs.zip"


class ZippedPairs(DataSource):
    name = "zipped pairs"

    def recognises(self, data):
        return (Path(data) / ARCHIVE).is_file()

    def files(self, data):
        return [Path(data) / ARCHIVE]

    def open(self, data, request):
        return ZippedSamples(Path(data).absolute() / ARCHIVE)


class ZippedSamples(Samples):
    def __init__(self, path):
        self.path = path
        self.archive = zipfile.ZipFile(path)
        names = self.archive.namelist()
        images = {name[:-4] for name in names if name.endswith(".jpg")}
        texts = {name[:-4] for name in names if name.endswith(".txt")}
        self.rows = [
            (key, self.archive.read(f"{key}.txt").decode()) for key in sorted(images & texts)
        ]
        self.skipped = {"no image": len(texts - images), "no caption": len(images - texts)}

    def __reduce__(self):  # each loader worker opens the archive itself
        return ZippedSamples, (self.path,)

    def __len__(self):
        return len(self.rows)

    def key(self, row):
        return self.rows[row][0]

    def image(self, row):
        return self.archive.read(f"{self.key(row)}.jpg")

    def caption(self, row):
        return self.rows[row][1]


EXTENSION = Extension(sources=[ZippedPairs()])
