"""Punkt's parameters for lower-case English, from the tables of NLTK's model `punkt_tab`."""

import json
from pathlib import Path

PARAMETERS = "punkt-english.json"
UPPER_CASE = 2 | 4 | 8  # bits of a word's orthographic context: seen with a capital, in any position
LOWER_CASE_AT_BEGIN = 16  # seen in lower case at the beginning of a sentence


def punkt_files(folder: Path) -> tuple[Path, ...]:
    """Return the model's tables that are read; `sent_starters.txt` affects capitalised words only."""
    return tuple(folder / name for name in ("abbrev_types.txt", "collocations.tab", "ortho_context.tab"))


def write_parameters(folder: Path, out: Path) -> None:
    """Write the parameters as JSON with sorted lists."""
    abbreviations, collocations, contexts = (
        path.read_text(encoding="utf-8").split("\n") for path in punkt_files(folder)
    )
    pairs = [line.split("\t") for line in contexts if line]
    table = {
        "abbreviations": sorted(word for word in abbreviations if word),
        "collocations": sorted(line.split("\t") for line in collocations if line),
        "lower-case starters": sorted(
            word for word, bits in pairs if int(bits) & LOWER_CASE_AT_BEGIN and not int(bits) & UPPER_CASE
        ),
    }
    (out / PARAMETERS).write_text(f"{json.dumps(table, indent=1, ensure_ascii=False)}\n", encoding="utf-8")
