"""How many times faster the rule corenet is than the released code: `python -m tests.features.label.speed [CAPTIONS]`.

All label the same distinct captions: the released code in this process, a part of them, for it takes long; the rule in
this process; and the whole command `label`, its start included, from one parquet file to another, on one core and on
two. They are interleaved. The released code needs a tagger, whose tags it does not use: NLTK's, or, where that is not
laid, NLTK's class with weights trained here on nonsense, which costs as much a word.
"""

import os
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
from nltk.corpus import wordnet
from nltk.stem import WordNetLemmatizer
from nltk.tag.perceptron import PerceptronTagger
from nltk.tokenize import word_tokenize

from bench.labels.nltk_labels import NltkLabeller, clean_as_released, find_synset
from bench.labels.synset_rules import CorenetRule
from bench.labels.wordnet import Lexicon, lexicon
from bench.suites.captions import distinct_captions

if TYPE_CHECKING:
    from collections.abc import Callable

VOCABULARY = 24_320  # synsets, in a list, as the released code has them
RELEASED = 800  # captions that the released code labels in a round
ROUNDS = 5


def tagger() -> tuple[PerceptronTagger, str]:
    try:
        return PerceptronTagger(), "NLTK's tagger"
    except LookupError:
        untrained = PerceptronTagger(load=False)
        generator = random.Random(0)
        words = [lexicon().gloss(label).split()[:14] for label in generator.sample(range(60_000), 1500)]
        untrained.train([[(word, f"T{len(word) * 7 % 45}") for word in sentence] for sentence in words], nr_iter=2)
        return untrained, "a stand-in for NLTK's tagger"


def label(*arguments: str, cores: int) -> None:
    """Run the command `label` on so many cores of this machine."""
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    command = [sys.executable, "-m", "bench", "label", *arguments, "--workers", str(cores)]
    subprocess.run(command, check=True, capture_output=True, preexec_fn=lambda: os.sched_setaffinity(0, allowed))


def main(count: int) -> None:
    pa.set_cpu_count(1)
    captions = distinct_captions(count)
    mean_words = sum(len(caption.split()) for caption in captions) / count
    column = pa.array(captions)
    start = time.perf_counter()
    Lexicon()
    loaded = time.perf_counter() - start
    rule = CorenetRule()
    ids, offsets = rule.label(column)
    tags, which = tagger()
    vocabulary = [rule.keys[label] for label, _ in Counter(ids.tolist()).most_common(VOCABULARY)]
    released = NltkLabeller(vocabulary, tags.tag)
    wordnet.synset("dog.n.01"), WordNetLemmatizer().lemmatize("dogs"), word_tokenize("a dog")  # its tables are read
    different = sum(
        [rule.keys[label] for label in ids[offsets[row] : offsets[row + 1]]]
        != [key for word in word_tokenize(clean_as_released(caption)) if (key := find_synset(word))]
        for row, caption in enumerate(captions[:RELEASED])
    )
    with TemporaryDirectory() as folder:
        source, vocab, out = (str(Path(folder) / name) for name in ("captions.parquet", "vocab.json", "labels"))
        pq.write_table(pa.table({"caption": column}), source, row_group_size=65_536)
        label(source, "--count-only", "--size", str(VOCABULARY), "--out", vocab, cores=2)
        stored = (source, "--vocabulary", vocab, "--out", out, "--force")
        some = captions[:RELEASED]
        sides: dict[str, tuple[int, Callable[[], object]]] = {
            f"released code, with {which}": (RELEASED, lambda: [*map(released, some)]),
            "released code without tagger and vocabulary": (
                RELEASED,
                lambda: [[find_synset(word) for word in word_tokenize(clean_as_released(one))] for one in some],
            ),
            "corenet in this process, its words not yet known": (count, lambda: CorenetRule().label(column)),
            "corenet in this process, its words known": (count, lambda: rule.label(column)),
            "label, parquet to parquet, one core": (count, lambda: label(*stored, cores=1)),
            "label, parquet to parquet, two cores": (count, lambda: label(*stored, cores=2)),
        }
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(ROUNDS):
            for name, (labelled, call) in sides.items():
                start = time.perf_counter()
                call()
                rates[name].append(labelled / (time.perf_counter() - start))
    print(f"{count:,} distinct captions of {mean_words:.1f} words; {different} of {RELEASED} labelled differently")
    print(f"the lexicon is read in {loaded:.2f} s")
    base = next(iter(rates.values()))
    for name, values in rates.items():
        ratios = [value / other for value, other in zip(values, base, strict=True)]
        print(
            f"{name}: {statistics.median(values):,.0f} captions/s, {statistics.median(ratios):,.1f}x"
            f" ({min(ratios):,.1f}x to {max(ratios):,.1f}x in {ROUNDS} rounds)"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
