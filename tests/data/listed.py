"""A data source of samples in a list, which is no more than the interface asks for."""

from collections.abc import Sequence
from pathlib import Path

from bench.interfaces.data_source import DataSource, SampleFieldsRequest, Samples


class Listed(Samples):
    """Samples in a list."""

    def __init__(self, content: Sequence[tuple[str, bytes, str]], skipped: int = 0) -> None:
        self.content, self.skipped = content, {"lost": skipped} if skipped else {}

    def __len__(self) -> int:
        return len(self.content)

    def key(self, row: int) -> str:
        return self.content[row][0]

    def image(self, row: int) -> bytes:
        return self.content[row][1]

    def caption(self, row: int) -> str:
        return self.content[row][2]


class Lists(DataSource):
    """A source whose samples are those that a test gives it."""

    name = "lists"

    def __init__(self, samples: object) -> None:
        self.samples = samples

    def recognises(self, data: str) -> bool:
        return data == "a list"

    def files(self, _data: str) -> list[Path]:
        return []

    def open(self, _data: str, _request: SampleFieldsRequest) -> Samples:
        return self.samples  # type: ignore[return-value]
