"""Compare `--rule corenet` with the released code on all the real text of this machine, and on hostile captions.

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
from bench.suites.captions import distinct_captions
from tests.labels import oracle
from tests.labels.corpus import captions, glosses
from tests.labels.hostile import hostile_captions, synsets

CACHE = Path("results/cache")
RECORD = Path(__file__).parent / "released.json.gz"
HOSTILE = 50_000


def compare(name: str, texts: list[str]) -> int:
    """Print how many captions have other labels than the released code's, and the first few; return how many."""
    rule = CorenetRule()
    ours = synsets(rule, texts)
    different, crashed, labels = [], [], 0
    for text, found in zip(texts, tqdm(ours, desc=name, unit=" captions", mininterval=2), strict=True):
        try:
            expected = oracle.labels(text)
        except Exception as error:  # noqa: BLE001  the released code raises: counted, ours has labelled it
            crashed.append((text, error))
            continue
        labels += len(expected)
        if found != expected:
            different.append((text, found, expected))
    outcome = f"{len(different)} captions differ, the released code raises on {len(crashed)}"
    print(f"{name}: {len(texts):,} captions, {labels:,} labels: {outcome}")
    for text, ours_, expected in different[:5]:
        print(f"  {text[:300]!r}\n    ours: {ours_}\n    theirs: {expected}")
    for text, error in crashed[:5]:
        print(f"  {text[:100]!r}: {error!r}")
    return len(different)


def record() -> None:
    """Write captions with the released code's answers: the pack's, definitions, the benchmark's, hostile ones."""
    pack = load_pack_images("pretrain", CACHE).captions[::20]
    texts = [*pack, *list(glosses())[::100], *distinct_captions(400), *hostile_captions(1500, seed=1)]
    answers = [[text, oracle.labels(text)] for text in texts]
    RECORD.write_bytes(gzip.compress(json.dumps(answers, ensure_ascii=False).encode(), mtime=0))
    print(f"{len(answers):,} captions, {RECORD.stat().st_size:,} bytes")


def main(arguments: list[str]) -> int:
    if reason := oracle.missing():
        print(reason, file=sys.stderr)
        return 2
    if arguments == ["--record"]:
        record()
        return 0
    texts = captions(CACHE)
    if arguments:
        texts = texts[:: max(1, len(texts) // int(arguments[0]))]
    return int(compare("real text", texts) + compare("hostile", hostile_captions(HOSTILE, seed=0)) > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
