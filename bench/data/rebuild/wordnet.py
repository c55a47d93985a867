"""WordNet 3.0's nouns in three small tables: what labelling captions needs of a 28 MB database."""

import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path

NOUNS = "wordnet30-nouns.tsv.gz"
EXCEPTIONS = "wordnet30-noun-exc.tsv.gz"
GLOSSES = "wordnet30-glosses.tsv.xz"


def wordnet_files(folder: Path) -> tuple[Path, ...]:
    """Return the files of the database that the tables are made of."""
    return tuple(folder / name for name in ("data.noun", "index.noun", "noun.exc"))


def write_tables(folder: Path, out: Path) -> None:
    """Write the tables from a WordNet 3.0 database.

    Nouns, in the order of their words: every lemma, and where its first synset bears its name (word.n.01 is valid) that
    synset's offset, without leading zeros. Exceptions: an irregular form and its base forms between spaces. Glosses:
    those offsets, ascending, each with its synset's gloss without the examples of use.
    """
    nouns = _nouns(folder)
    rows = [lemma if offset is None else f"{lemma}\t{offset}" for lemma, offset in sorted(nouns.items())]
    _write(out / NOUNS, rows)
    lines = (folder / "noun.exc").read_text(encoding="utf-8").splitlines()
    exceptions = {word: " ".join(bases) for word, *bases in map(str.split, lines)}
    _write(out / EXCEPTIONS, [f"{word}\t{bases}" for word, bases in sorted(exceptions.items())])
    kept = {offset for offset in nouns.values() if offset is not None}
    glosses = (line.split("|", 1) for line in _rows(folder / "data.noun"))
    pairs = ((int(data.split(" ", 1)[0]), gloss.split('; "')[0].strip()) for data, gloss in glosses)
    text = "\n".join(f"{offset}\t{gloss}" for offset, gloss in pairs if offset in kept)
    (out / GLOSSES).write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


def _nouns(folder: Path) -> dict[str, int | None]:
    """Return every noun lemma, with its first synset's offset where that synset's first word is the lemma."""
    first_word = {}
    for line in _rows(folder / "data.noun"):
        offset, _, _, _, word, _ = line.split(" ", 5)
        first_word[int(offset)] = word.lower()
    nouns: dict[str, int | None] = {}
    for line in _rows(folder / "index.noun"):
        fields = line.split()
        lemma, count = fields[0], int(fields[2])
        first = int(fields[-count])  # the row ends in the lemma's synsets, most frequent first
        nouns[lemma] = first if first_word[first] == lemma else None
    return nouns


def _rows(path: Path) -> Iterator[str]:
    """Yield the lines after the licence, whose lines begin with two spaces."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if not line.startswith("  "):
                yield line


def _write(path: Path, rows: list[str]) -> None:
    """Write in gzip's format by way of zlib, whose header is the same under every Python."""
    path.write_bytes(zlib.compress("\n".join(rows).encode(), 9, wbits=31))
