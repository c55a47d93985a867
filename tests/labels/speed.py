"""How many times faster the rule corenet is than the released code: `python -m tests.labels.speed [CAPTIONS]`.

Both label the same distinct captions in one process on one core: the released code a part of them, for it takes long.
It needs a tagger, whose tags it does not use: NLTK's, or, where that is not laid, NLTK's class with weights trained
here on nonsense, which costs as much a word. Seconds are those of the processor.
"""

import random
import sys
import time
from collections import Counter

import pyarrow as pa
from nltk.corpus import wordnet
from nltk.stem import WordNetLemmatizer
from nltk.tag.perceptron import PerceptronTagger
from nltk.tokenize import word_tokenize

from bench.labels.corenet import CorenetRule
from bench.labels.lexicon import Lexicon, lexicon
from bench.suites.captions import distinct_captions
from tests.labels.oracle import cleaned, synset_of

VOCABULARY = 24_320  # synsets, in a list, as the released code has them
RELEASED = 4_000  # captions that the released code labels


def tagger() -> tuple[PerceptronTagger, str]:
    try:
        return PerceptronTagger(), "NLTK's tagger"
    except LookupError:
        untrained = PerceptronTagger(load=False)
        generator = random.Random(0)
        words = [lexicon().gloss(label).split()[:14] for label in generator.sample(range(60_000), 1500)]
        untrained.train([[(word, f"T{len(word) * 7 % 45}") for word in sentence] for sentence in words], nr_iter=2)
        return untrained, "a stand-in for NLTK's tagger"


def released(caption: str, tags: PerceptronTagger, vocabulary: list[str]) -> list[int]:
    """Label a caption as corenet's `_convert_caption_to_labels` does."""
    labels = []
    for word, _ in tags.tag(word_tokenize(cleaned(caption))):
        key = synset_of(word)
        if key is not None and key in vocabulary:
            labels.append(vocabulary.index(key))
    return labels


def main(count: int) -> None:
    pa.set_cpu_count(1)
    captions = distinct_captions(count)
    words = sum(len(caption.split()) for caption in captions) / count
    column = pa.array(captions)
    start = time.process_time()
    Lexicon()
    loaded = time.process_time() - start
    rule = CorenetRule()
    start = time.process_time()
    ids, offsets = rule.label(column)
    first = time.process_time()
    rule.label(column)
    ours, again = count / (first - start), count / (time.process_time() - first)
    tags, which = tagger()
    vocabulary = [rule.keys[label] for label, _ in Counter(ids.tolist()).most_common(VOCABULARY)]
    wordnet.synset("dog.n.01"), WordNetLemmatizer().lemmatize("dogs"), word_tokenize("a dog")  # its tables are read
    rates = {}
    for name, call in {
        f"released code, with {which}": lambda caption: released(caption, tags, vocabulary),
        "released code without tagger and vocabulary": lambda caption: list(
            map(synset_of, word_tokenize(cleaned(caption)))
        ),
    }.items():
        begin = time.process_time()
        for caption in captions[:RELEASED]:
            call(caption)
        rates[name] = min(RELEASED, count) / (time.process_time() - begin)
    different = sum(
        [rule.keys[label] for label in ids[offsets[row] : offsets[row + 1]]]
        != [key for word in word_tokenize(cleaned(caption)) if (key := synset_of(word))]
        for row, caption in enumerate(captions[:RELEASED])
    )
    print(
        f"{count:,} distinct captions of {words:.1f} words, one core; {different} of {RELEASED:,} labelled differently"
    )
    print(
        f"corenet: {ours:,.0f} captions/s, {again:,.0f} once its words are known; its lexicon is read in {loaded:.2f} s"
    )
    for name, rate in rates.items():
        print(f"{name}: {rate:,.0f} captions/s; corenet is {ours / rate:,.0f}x, {again / rate:,.0f}x")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300_000)
