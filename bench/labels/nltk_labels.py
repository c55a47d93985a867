"""CatLIP's labels as its released code computes them for each caption while images are loaded: with NLTK.

Source: apple/corenet at 1aa3acd, `corenet/data/datasets/classification/wordnet_tagged_classification.py`,
`_convert_caption_to_labels`, and `corenet/data/datasets/utils/text.py`. The labels equal the labels of the rule
`corenet`; only their cost differs, which `explain --factors labels=nltk` measures.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import unquote

from ftfy import fix_text

TaggedToken = tuple[str, str]  # token and tag
Tagger = Callable[[list[str]], list[TaggedToken]]  # of the tokens of a caption
TAGGER_WEIGHTS = "averaged_perceptron_tagger_eng"


class NltkLabeller:
    """Labels one caption: clean, tokenise, tag, lemmatise, look up the synset, and search it in the vocabulary.

    The tags are computed and not used. The tagger is loaded once, as by NLTK 3.8.1, which the released code asks for;
    later versions read its weights again in each `pos_tag`.
    """

    def __init__(self, vocabulary: list[str], tagger: Tagger | None = None) -> None:
        """Take the synsets of the labels, and a tagger or None for NLTK's; ValueError names what must be installed."""
        self._vocabulary = vocabulary
        with refuse_missing_nltk("labels=nltk", f"wordnet punkt_tab {TAGGER_WEIGHTS}"):
            from nltk.tokenize import word_tokenize

            self._tagger = tagger or load_nltk_tagger()
            self._tokenize = word_tokenize
            self("a dog")  # reads the data

    def __call__(self, caption: str) -> list[int]:
        """Return the labels of a caption as positions in the vocabulary, in the order of its words, with repeats."""
        labels = []
        tokens = self._tokenize(clean_caption_as_released(caption))
        for word, _ in self._tagger(tokens):
            key = find_synset_key_with_nltk(word)
            if key is not None and key in self._vocabulary:  # two searches of a list, as there
                labels.append(self._vocabulary.index(key))
        return labels


def clean_caption_as_released(caption: str) -> str:
    """Return what `bench.labels.cleaning.clean_caption_like_corenet` returns, without its shortcuts."""
    text = unquote(caption).replace("+", " ")
    text = re.sub("<.*?>", "", text).strip("\n")
    text = re.sub(" +", " ", text)
    return fix_text(text).strip().lower()


def find_synset_key_with_nltk(word: str) -> str | None:
    """Return the key of a token's synset, such as n2084071; None if it is no noun with a synset of its name."""
    from nltk.corpus import wordnet
    from nltk.corpus.reader.wordnet import WordNetError
    from nltk.stem import WordNetLemmatizer

    try:
        lemma = WordNetLemmatizer().lemmatize(word)
        synset = wordnet.synset(f"{lemma}.n.01")
    except (WordNetError, ValueError):  # no such noun; a token such as "."
        return None
    if synset.name() != f"{lemma}.n.01":
        return None
    return f"{synset.pos()}{synset.offset()}"


def load_nltk_tagger() -> Tagger:
    """Load NLTK's averaged perceptron tagger."""
    from nltk.tag.perceptron import PerceptronTagger

    tagger: Tagger = PerceptronTagger().tag
    return tagger


@contextmanager
def refuse_missing_nltk(feature: str, nltk_data: str) -> Iterator[None]:
    """Raise ValueError with the remedy where the block finds that NLTK or some of its data is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "nltk":
            raise
        raise ValueError(f"{feature} needs NLTK: pip install -e '.[paper]'") from error
    except LookupError as error:
        # NLTK raises the base class; a KeyError or an IndexError is a fault.
        if type(error) is not LookupError:
            raise
        remedy = f"python -m nltk.downloader {nltk_data}"
        raise ValueError(
            f"{feature} needs data of NLTK that no Python package contains: {remedy}"
        ) from error
