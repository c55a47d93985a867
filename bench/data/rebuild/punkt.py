"""Punkt's parameters for lower-cased English, from the four tables of NLTK's model `punkt_tab`.

    pip download --no-deps llama-index-core==0.14.25 && python -m zipfile -e llama_index_core-0.14.25-*.whl wheel
    python -m bench.data.rebuild.punkt wheel/llama_index/core/_static/nltk_cache/tokenizers/punkt_tab/english
"""

import json
import sys
from pathlib import Path

from bench.labels.sentences import PARAMETERS

UPPER_CASE = 2 | 4 | 8  # bits of an entry of NLTK's orthographic context: seen with a capital, anywhere
LOWER_CASE_AT_BEGIN = 16  # seen in lower case where a sentence begins


def punkt_parameters(folder: Path) -> str:
    """Return the parameters as JSON, lists sorted."""
    contexts = [line.split("\t") for line in _lines(folder / "ortho_context.tab")]
    table = {
        "abbreviations": sorted(_lines(folder / "abbrev_types.txt")),
        "collocations": sorted(line.split("\t") for line in _lines(folder / "collocations.tab")),
        "lower-case starters": sorted(
            word for word, bits in contexts if int(bits) & LOWER_CASE_AT_BEGIN and not int(bits) & UPPER_CASE
        ),
        "licence": "MIT, Jan Strunk: the English model of nltk_data's punkt_tab (LICENCE-punkt.txt)",
    }
    return f"{json.dumps(table, indent=1, ensure_ascii=False)}\n"


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    PARAMETERS.write_text(punkt_parameters(Path(sys.argv[1])), encoding="utf-8")
