"""Vocabularies: ordered lists of labels with their counts, one `label<TAB>word<TAB>count` a line."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.config import choose

SHIPPED = Path(__file__).parent / "vocabularies"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Labels by falling count; a label's place is its column in the classification head."""

    labels: tuple[str, ...]
    words: tuple[str, ...]  # what a person reads for each label
    counts: tuple[int, ...]

    def columns(self) -> dict[str, int]:
        """Return each label's column."""
        return {label: column for column, label in enumerate(self.labels)}


def count_labels(labels: Iterable[tuple[str, ...]], words: dict[str, str], *, at_least: int) -> Vocabulary:
    """Make a vocabulary of the labels that occur in at least so many captions; ties are in the labels' order."""
    counts = Counter(label for caption in labels for label in caption)
    rows = sorted((-count, label) for label, count in counts.items() if count >= at_least)
    return Vocabulary(
        labels=tuple(label for _, label in rows),
        words=tuple(words.get(label, label) for _, label in rows),
        counts=tuple(-count for count, _ in rows),
    )


@cache
def read_vocabulary(name: str) -> Vocabulary:
    """Read a shipped vocabulary by its name, or a file by its path; ValueError tells what there is."""
    path = Path(name)
    if path.suffix != ".tsv":
        path = choose(name, {file.stem: file for file in SHIPPED.glob("*.tsv")}, "vocabulary (or path to a .tsv file)")
    if not path.is_file():
        raise ValueError(f"no vocabulary file {name!r}")
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").split("\n") if line]
    for number, row in enumerate(rows, start=1):
        if len(row) != 3 or not row[2].isdecimal():  # noqa: PLR2004
            raise ValueError(f"{path}, line {number}: expected label, word and count between tabs, got {row}")
    labels, words, counts = zip(*rows, strict=True) if rows else ((), (), ())
    return Vocabulary(labels, words, tuple(map(int, counts)))


def write_vocabulary(vocabulary: Vocabulary, path: Path) -> None:
    """Write one line a label."""
    rows = zip(vocabulary.labels, vocabulary.words, vocabulary.counts, strict=True)
    path.write_text("".join(f"{label}\t{word}\t{count}\n" for label, word, count in rows), encoding="utf-8")
