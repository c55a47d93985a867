"""Compare `--rule corenet` with the released code on captions, on WordNet's definitions and on hostile captions.

    python -m tests.labels.agreement [CAPTIONS]     compares; CAPTIONS takes so many, evenly drawn
    python -m tests.labels.agreement --record       writes the answers that tests/labels/test_corenet.py asks for

Needs NLTK and its data: see tests/labels/oracle.py.
"""

import gzip
import json
import sys
from pathlib import Path

from tqdm import tqdm

from bench.data.pack import load_pack_images
from bench.labels.synset_rules import CorenetRule
from tests.labels import oracle
from tests.labels.distinct_captions import distinct_captions
from tests.labels.hostile import hostile_captions, synsets

CACHE = Path("results/cache")
RECORD = Path(__file__).parent / "released.json.gz"


def glosses() -> list[str]:
    """Return every second of WordNet's definitions with their examples, where the database is installed."""
    path = Path("/usr/share/wordnet/data.noun")
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[29::2]
    return [line.split("|")[1] for line in lines if "|" in line]


def compare(name: str, texts: list[str]) -> int:
    """Print how many captions have other labels than the released code's, and the first few; return how many."""
    different, crashed = [], 0
    for text, ours in zip(texts, tqdm(synsets(CorenetRule(), texts), desc=name), strict=True):
        try:
            theirs = oracle.labels(text)
        except Exception:  # noqa: BLE001  the released code raises: counted, ours has labelled it
            crashed += 1
            continue
        if ours != theirs:
            different.append((text, ours, theirs))
    print(
        f"{name}: {len(texts):,} captions, {len(different)} differ, the released code raises on {crashed}"
    )
    for text, ours, theirs in different[:5]:
        print(f"  {text[:300]!r}\n    ours: {ours}\n    theirs: {theirs}")
    return len(different)


def record() -> None:
    """Write captions with the released code's answers: the pack's, definitions, the benchmark's, hostile ones."""
    pack = load_pack_images("pretrain", CACHE).captions[::20]
    texts = [
        *pack,
        *glosses()[::100],
        *distinct_captions(400),
        *hostile_captions(1500, seed=1),
    ]
    answers = [[text, oracle.labels(text)] for text in texts]
    RECORD.write_bytes(gzip.compress(json.dumps(answers, ensure_ascii=False).encode(), mtime=0))


def main(arguments: list[str]) -> int:
    if reason := oracle.missing():
        sys.exit(reason)
    if arguments == ["--record"]:
        record()
        return 0
    texts = [*dict.fromkeys([*load_pack_images("pretrain", CACHE).captions, *glosses()])]
    if arguments:
        texts = texts[:: max(1, len(texts) // int(arguments[0]))]
    return int(
        compare("captions and definitions", texts)
        + compare("hostile", hostile_captions(50_000, seed=0))
        > 0
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
