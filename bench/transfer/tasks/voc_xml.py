"""The objects of a Pascal VOC annotation, read so that no file can do harm."""

from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

MOST_BYTES = 2**20  # of an annotation; VOC's have some kB
DEPTH = 3  # of an element right inside an object


def objects_in(path: Path) -> list[tuple[str, bool]]:
    """Return the class of each object in a picture, and whether it is marked as difficult.

    A document type, which could define entities that grow without end or name other files, is refused, as is a file of
    more than a MiB. Raises ValueError that names the file.
    """
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path}: over {MOST_BYTES // 2**20} MiB")
    reader = _Reader(path)
    try:
        reader.parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        raise ValueError(f"{path}: {error}") from None
    if unnamed := [one for one in reader.objects if not one.get("name")]:
        raise ValueError(f"{path}: {len(unnamed)} objects have no name")
    return [(one["name"], one.get("difficult", "0") == "1") for one in reader.objects]


class _Reader:
    """Collects the texts of what lies right inside an object: not the names of its parts."""

    def __init__(self, path: Path) -> None:
        self.objects: list[dict[str, str]] = []
        self._file, self._path, self._text = path, list[str](), ""
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._begin
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._read
        self.parser.StartDoctypeDeclHandler = self._refuse

    def _begin(self, name: str, _attributes: dict[str, str]) -> None:
        self._path.append(name)
        self._text = ""
        if self._path == ["annotation", "object"]:
            self.objects.append({})

    def _end(self, name: str) -> None:
        if len(self._path) == DEPTH and self._path[:-1] == ["annotation", "object"]:
            self.objects[-1][name] = self._text.strip()
        self._path.pop()

    def _read(self, text: str) -> None:
        self._text += text

    def _refuse(self, *_: object) -> NoReturn:
        raise ValueError(f"{self._file}: a document type is refused: annotations need none")
