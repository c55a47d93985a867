"""Tables for the labels: five of WordNet 3.0's nouns, and Punkt's parameters for lower-case English.

The sources are WordNet's database (28 MB) and the tables of NLTK's model `punkt_tab`.
"""

import json
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path

HYPERNYM_POINTERS = ("@", "@i")  # pointers to the hypernyms of a class and of an instance
UPPER_CASE = 2 | 4 | 8  # bits of a word's orthographic context: seen with a capital, in any position
LOWER_CASE_AT_BEGIN = 16  # seen in lower case at the beginning of a sentence


def wordnet_files(folder: Path) -> tuple[Path, ...]:
    """Return the database files that the tables are built from."""
    return tuple(folder / name for name in ("data.noun", "index.noun", "noun.exc"))


def write_wordnet_tables(folder: Path, out: Path) -> None:
    """Write the tables from a WordNet 3.0 database.

    Nouns: every lemma, sorted, and the offset of its first synset, without leading zeros, if that synset has the
    lemma's name (word.n.01 is valid). Exceptions: an irregular form and its base forms, separated by spaces. Glosses:
    those offsets, ascending, with the synset's gloss without usage examples. Hypernyms: every noun synset's offset,
    ascending, the offsets of its direct hypernyms, and its name (canine.n.02) if the table of nouns does not imply it.
    Senses: the offset of the first synset of each lemma without an offset in the table of nouns, in its order.
    """
    index = (line.split() for line in _read_lines(folder / "index.noun"))
    # the synsets of every lemma, most frequent first: the last fields of its row
    senses = {lemma: tuple(map(int, rest[-int(count) :])) for lemma, _, count, *rest in index}
    synsets = [_parse_synset(line) for line in _read_lines(folder / "data.noun")]
    word_of = {offset: word for offset, word, _, _ in synsets}
    nouns = {lemma: first if word_of[first] == lemma else None for lemma, (first, *_) in sorted(senses.items())}
    rows = [lemma if offset is None else f"{lemma}\t{offset}" for lemma, offset in nouns.items()]
    _write_gzip(out / "wordnet30-nouns.tsv.gz", rows)
    lines = (folder / "noun.exc").read_text(encoding="utf-8").splitlines()
    exceptions = {word: " ".join(bases) for word, *bases in map(str.split, lines)}
    _write_gzip(out / "wordnet30-noun-exc.tsv.gz", [f"{word}\t{bases}" for word, bases in sorted(exceptions.items())])
    kept = set(nouns.values())
    rows = [f"{offset}\t{gloss}" for offset, _, _, gloss in synsets if offset in kept]
    _write_xz(out / "wordnet30-glosses.tsv.xz", rows)
    rows = []
    for offset, word, above, _ in synsets:
        name = "" if offset in kept else f"\t{word}.n.{senses[word].index(offset) + 1:02}"  # NLTK's name
        rows.append(f"{offset}\t{above}{name}")
    _write_xz(out / "wordnet30-hypernyms.tsv.xz", rows)
    rows = [str(senses[lemma][0]) for lemma, offset in nouns.items() if offset is None]
    _write_xz(out / "wordnet30-senses.tsv.xz", rows)


def _parse_synset(line: str) -> tuple[int, str, str, str]:
    """Return a synset's offset, first word, the offsets of its direct hypernyms, and gloss without examples."""
    data, gloss = line.split("|", 1)
    offset, _, _, num_words, word, *rest = data.split()
    pointers = rest[2 * int(num_words, 16) :]  # symbol, offset, part of speech and words of each
    symbols_and_offsets = zip(pointers[::4], pointers[1::4], strict=True)
    above = (str(int(up)) for symbol, up in symbols_and_offsets if symbol in HYPERNYM_POINTERS)
    return int(offset), word.lower(), " ".join(above), gloss.split('; "')[0].strip()


def _read_lines(path: Path) -> Iterator[str]:
    """Yield the lines after the licence, whose lines begin with two spaces."""
    with path.open(encoding="utf-8") as file:
        yield from (line for line in file if not line.startswith("  "))


def _write_gzip(path: Path, rows: list[str]) -> None:
    """Write gzip's format through zlib, whose header is equal under every Python version."""
    path.write_bytes(zlib.compress("\n".join(rows).encode(), 9, wbits=31))


def _write_xz(path: Path, rows: list[str]) -> None:
    path.write_bytes(lzma.compress("\n".join(rows).encode(), preset=9 | lzma.PRESET_EXTREME))


def punkt_files(folder: Path) -> tuple[Path, ...]:
    """Return the model's tables that are read; `sent_starters.txt` affects capitalised words only."""
    return tuple(folder / name for name in ("abbrev_types.txt", "collocations.tab", "ortho_context.tab"))


def write_punkt_parameters(folder: Path, out: Path) -> None:
    """Write the parameters as JSON with sorted lists."""
    texts = (path.read_text(encoding="utf-8") for path in punkt_files(folder))
    abbreviations, collocations, contexts = (text.split("\n") for text in texts)
    pairs = [line.split("\t") for line in contexts if line]
    table = {
        "abbreviations": sorted(word for word in abbreviations if word),
        "collocations": sorted(line.split("\t") for line in collocations if line),
        "lower-case starters": sorted(
            word for word, bits in pairs if int(bits) & LOWER_CASE_AT_BEGIN and not int(bits) & UPPER_CASE
        ),
    }
    (out / "punkt-english.json").write_text(f"{json.dumps(table, indent=1, ensure_ascii=False)}\n", encoding="utf-8")
