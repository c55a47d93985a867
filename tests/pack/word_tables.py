"""Tables for the labels: six of WordNet 3.0's nouns, and Punkt's parameters for lower-case English.

The sources are WordNet's database (28 MB) and the tables of NLTK's model `punkt_tab`.
"""

import json
import lzma
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NOUN = "1"  # types of synsets in sense keys (senseidx(5WN))
ADJECTIVES = ("3", "5")  # heads and satellites
HYPERNYM_POINTERS = ("@", "@i")  # pointers to the hypernyms of a class and of an instance
# Bits of a word's orthographic context: seen with a capital, in any position.
UPPER_CASE = 2 | 4 | 8
LOWER_CASE_AT_BEGIN = 16  # seen in lower case at the beginning of a sentence


@dataclass(frozen=True)
class Synset:
    """A noun synset of WordNet's database."""

    offset: int
    word: str  # the first, in lower case
    hypernyms: list[int]  # offsets of the direct ones
    gloss: str  # without usage examples


def write_wordnet_tables(folder: Path, out: Path) -> None:
    """Write the tables from a WordNet 3.0 database.

    Nouns: every lemma, sorted, and the offset of its first synset, without leading zeros, if that synset has the
    lemma's name (word.n.01 is valid). Exceptions: an irregular form and its base forms, separated by spaces. Glosses:
    those offsets, ascending, with the synset's gloss without usage examples. Hypernyms: every noun synset's offset,
    ascending, the offsets of its direct hypernyms, and its name (canine.n.02) if the table of nouns does not imply it.
    Senses: the offset of the first synset of each lemma without an offset in the table of nouns, in its order.
    Adjectives: the lemmas with an offset that WordNet's tagged texts use more often as adjectives than as nouns, with
    both counts.
    """
    synsets = [parse_synset(line) for line in read_lines(folder / "data.noun")]
    word_of_offset = {synset.offset: synset.word for synset in synsets}
    offsets_of_lemma = {}  # most frequent synset first
    for line in read_lines(folder / "index.noun"):
        lemma, _, count, *fields = line.split()
        offsets_of_lemma[lemma] = [int(offset) for offset in fields[-int(count) :]]

    nouns, senses, offsets_in_nouns = [], [], set()
    for lemma, (first, *_) in sorted(offsets_of_lemma.items()):
        if word_of_offset[first] == lemma:
            nouns.append(f"{lemma}\t{first}")
            offsets_in_nouns.add(first)
        else:
            nouns.append(lemma)
            senses.append(str(first))

    glosses, hypernyms = [], []
    for synset in synsets:
        row = f"{synset.offset}\t{' '.join(map(str, synset.hypernyms))}"
        if synset.offset in offsets_in_nouns:
            glosses.append(f"{synset.offset}\t{synset.gloss}")
        else:
            sense = offsets_of_lemma[synset.word].index(synset.offset) + 1
            row += f"\t{synset.word}.n.{sense:02}"  # NLTK's name
        hypernyms.append(row)

    uses = count_uses(folder / "cntlist.rev")
    adjectives = []
    for lemma, (as_adjective, as_noun) in sorted(uses.items()):
        first = offsets_of_lemma.get(lemma, [0])[0]
        if as_adjective > as_noun and word_of_offset.get(first) == lemma:
            adjectives.append(f"{lemma}\t{as_adjective}\t{as_noun}")

    bases_of_form = {}
    for line in (folder / "noun.exc").read_text(encoding="utf-8").splitlines():
        form, *bases = line.split()
        bases_of_form[form] = " ".join(bases)

    write_gzip(out / "wordnet30-nouns.tsv.gz", nouns)
    write_gzip(
        out / "wordnet30-noun-exc.tsv.gz",
        [f"{form}\t{bases}" for form, bases in sorted(bases_of_form.items())],
    )
    write_gzip(out / "wordnet30-adjectives.tsv.gz", adjectives)
    write_xz(out / "wordnet30-glosses.tsv.xz", glosses)
    write_xz(out / "wordnet30-hypernyms.tsv.xz", hypernyms)
    write_xz(out / "wordnet30-senses.tsv.xz", senses)


def count_uses(path: Path) -> dict[str, list[int]]:
    """Return how often the tagged texts use each lemma as an adjective and as a noun (cntlist(5WN))."""
    uses: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for line in path.read_text(encoding="utf-8").splitlines():
        sense_key, _, count = line.split()
        lemma, lexical_sense = sense_key.split("%")
        part_of_speech = lexical_sense[0]
        if part_of_speech in ADJECTIVES:
            uses[lemma][0] += int(count)
        elif part_of_speech == NOUN:
            uses[lemma][1] += int(count)
    return uses


def parse_synset(line: str) -> Synset:
    data, gloss = line.split("|", 1)
    offset, _, _, num_words, word, *rest = data.split()
    pointers = rest[2 * int(num_words, 16) :]  # symbol, offset, part of speech and words of each
    hypernyms = []
    for symbol, target in zip(pointers[::4], pointers[1::4], strict=True):
        if symbol in HYPERNYM_POINTERS:
            hypernyms.append(int(target))
    return Synset(int(offset), word.lower(), hypernyms, gloss.split('; "')[0].strip())


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines after the licence, whose lines begin with two spaces."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if not line.startswith("  "):
                yield line


def write_gzip(path: Path, rows: list[str]) -> None:
    """Write gzip's format through zlib, whose header is equal under every Python version."""
    path.write_bytes(zlib.compress("\n".join(rows).encode(), 9, wbits=31))


def write_xz(path: Path, rows: list[str]) -> None:
    path.write_bytes(lzma.compress("\n".join(rows).encode(), preset=9 | lzma.PRESET_EXTREME))


def write_punkt_parameters(folder: Path, out: Path) -> None:
    """Write the parameters as JSON with sorted lists; `sent_starters.txt` affects capitalised words only."""
    starters = []
    for line in read_rows(folder / "ortho_context.tab"):
        word, context = line.split("\t")
        if int(context) & LOWER_CASE_AT_BEGIN and not int(context) & UPPER_CASE:
            starters.append(word)
    parameters = {
        "abbreviations": sorted(read_rows(folder / "abbrev_types.txt")),
        "collocations": sorted(line.split("\t") for line in read_rows(folder / "collocations.tab")),
        "lower-case starters": sorted(starters),
    }
    text = json.dumps(parameters, indent=1, ensure_ascii=False)
    (out / "punkt-english.json").write_text(f"{text}\n", encoding="utf-8")


def read_rows(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").split("\n") if line]
