"""Captions of text that is difficult to clean and to tokenise."""

import random
from collections.abc import Sequence

import pyarrow as pa
from hypothesis import strategies as st

from bench.labels.synset_rules import CorenetRule

WORDS = """dog dogs wolves men bicycle u.s ph.d reps administrators z-holiday hot_dog st dr jan.
no. ms. e.g. U.S.A. 24/7 9/11 cannot gonna gimme wanna d'ye more'n 'tis don't can't it's dogs'
dog's dog's' 'dog' "dog" (dog) [dog.] {dog.} dog, dog. dog! dog? dog; dog: dog.) dog." dog.' dog!)
dog'. "dog." .dog ..dog dog.. dog... dog.cat dog.)cat dog,cat dog:cat dog&cat dog/cat dog-cat
dog--cat -dog 5dog 5.dog 5. 5.5 3,000 $5 12.5. -3. a. i. j. b. stewart zimmer commodities cooper
mg. cos. t. « » «dog.» “dog.” ‘dog’ dog’s „dog – — dog–cat … 🐕 🐕. é. café's ÿ𝐀bc 𝐀. İ ı ſ 日本 שלום ﬁ
ＡＢ ＆amp； Ã© â€™ Ã Â œ &amp; &lt;b&gt; &#39; &nbsp; &amp;amp; %20 %C3%A9 100% <b> </p> < >
http://a.b/c?d=e+f me@x.com #dog @dog *dog* `dog` ``dog''""".split()  # noqa: SIM905
QUOTES_AND_ENDINGS = "'' `` -- ... ?! .) ') 's n't 'll".split()  # noqa: SIM905
MARKS = [*"'\"`.,:;?!-()[]{}<>/\\|@#$%&*+=~^_", *QUOTES_AND_ENDINGS, ') "']
SPACES = [*" \t\n\x0b\x0c\xa0\u2003\u3000\u2028", " ", " ", "  ", " \n ", "\r\n", " \xa0"]
ODD = [*"\x00\x07\x1c\x7f\x80\x85\xad\u0301\u200d\u202e\ufeff\ufffd", "\x1b[31m"]

pieces = st.one_of(
    st.sampled_from(WORDS),
    st.sampled_from(MARKS),
    st.sampled_from(SPACES),
    st.sampled_from(ODD),
    st.characters(exclude_categories=["Cs"]),
)
captions = st.one_of(
    st.lists(pieces, max_size=12).map("".join),
    st.lists(st.sampled_from(WORDS + MARKS), max_size=12).map(" ".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
)


def hostile_captions(count: int, seed: int) -> list[str]:
    """Return captions drawn from the same pieces; the same for the same seed."""
    generator = random.Random(seed)
    return ["".join(_pieces(generator)) for _ in range(count)]


def _pieces(generator: random.Random) -> list[str]:
    parts = []
    for _ in range(generator.randrange(1, 10)):
        kind = generator.choices((WORDS, MARKS, ODD), (8, 3, 1))[0]
        glue = generator.random()
        parts += [
            generator.choice(kind),
            "" if glue < 0.25 else " " if glue < 0.85 else generator.choice(SPACES),
        ]
    return parts


def synsets(rule: CorenetRule, texts: Sequence[str]) -> list[list[str]]:
    """Return the keys of the synsets of each caption, all labelled as one column."""
    labels = rule.label_ids(pa.array(texts, pa.string())).to_pylist()
    return [[rule.keys[label] for label in row] for row in labels]
