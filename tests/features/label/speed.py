"""How many times faster the rule corenet is than the released code: `python -m tests.features.label.speed [CAPTIONS]`.

All label the same distinct captions, interleaved: the released code labels a part of them in this process, the rule
labels all in this process, and so does the whole command `label`, its start included, which counts two parquet files,
on one core and on two. The released code needs NLTK's tagger, whose tags it does not use; without its weights, NLTK's
class with weights trained here on nonsense takes as long.
"""

import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
from nltk.tag.perceptron import PerceptronTagger

from bench.labels.labeller import get_label_rule
from bench.labels.nltk_labels import NltkLabeller
from bench.labels.synset_rules import CorenetRule
from bench.labels.vocabulary import read_vocabulary
from bench.labels.wordnet import lexicon
from tests.labels.distinct_captions import distinct_captions

if TYPE_CHECKING:
    from collections.abc import Callable

RELEASED = 800  # captions that the released code labels in a round
ROUNDS = 5


def load_or_train_tagger() -> PerceptronTagger:
    try:
        return PerceptronTagger()
    except LookupError:
        tagger = PerceptronTagger(load=False)
        generator = random.Random(0)
        words = [
            lexicon().gloss(label).split()[:14] for label in generator.sample(range(60_000), 1500)
        ]
        tagger.train(
            [[(word, f"T{len(word) * 7 % 45}") for word in sentence] for sentence in words],
            nr_iter=2,
        )
        return tagger


def label(*arguments: str, cores: int) -> None:
    """Run the command `label` on so many cores of this machine."""
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    command = [sys.executable, "-m", "bench", "label", *arguments, "--workers", str(cores)]
    subprocess.run(
        command,
        check=True,
        capture_output=True,
        preexec_fn=lambda: os.sched_setaffinity(0, allowed),
    )


def main(count: int) -> None:
    pa.set_cpu_count(1)
    captions = distinct_captions(count)
    column = pa.array(captions)
    rule = get_label_rule("corenet")
    rule.label_ids(column)
    with TemporaryDirectory() as folder:
        files = [str(Path(folder, name)) for name in ("a.parquet", "b.parquet")]
        half = count // 2
        for file, part in zip(files, (column[:half], column[half:]), strict=True):
            pq.write_table(pa.table({"caption": part}), file, row_group_size=65_536)
        vocabulary = str(Path(folder, "vocabulary.json"))
        label(*files, "--size", "24320", "--out", vocabulary, cores=2)
        released = NltkLabeller([*read_vocabulary(vocabulary).keys], load_or_train_tagger().tag)
        sides: dict[str, tuple[int, Callable[[], object]]] = {
            "released code": (
                RELEASED,
                lambda: [released(caption) for caption in captions[:RELEASED]],
            ),
            "corenet in this process, its words not yet known": (
                count,
                lambda: CorenetRule().label_ids(column),
            ),
            "corenet in this process, its words known": (count, lambda: rule.label_ids(column)),
            "label, one core": (count, lambda: label(*files, "--out", vocabulary, cores=1)),
            "label, two cores": (count, lambda: label(*files, "--out", vocabulary, cores=2)),
        }
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(ROUNDS):
            for name, (labelled, call) in sides.items():
                start = time.perf_counter()
                call()
                rates[name].append(labelled / (time.perf_counter() - start))
    for name, values in rates.items():
        ratios = [value / base for value, base in zip(values, rates["released code"], strict=True)]
        print(
            f"{name}: {statistics.median(values):,.0f} captions/s, {statistics.median(ratios):,.1f}x"
            f" ({min(ratios):,.1f}x to {max(ratios):,.1f}x in {ROUNDS} rounds)"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
