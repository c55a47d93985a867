"""The released algorithm itself, run on NLTK: the reference of the rule `corenet`, label for label.

Only tests need NLTK (extra `oracle`), and its downloader is not needed. Install the data once by

    apt-get install wordnet-base wordnet-sense-index
    pip download --no-deps llama-index-core==0.14.25 && python -m zipfile -e llama_index_core-0.14.25-*.whl wheel
    python -m tests.labels.oracle /usr/share/wordnet wheel/llama_index/core/_static/nltk_cache nltk_data

and set NLTK_DATA=nltk_data, which NLTK reads.
"""

import re
import shutil
import sys
from pathlib import Path
from urllib.parse import unquote

from ftfy import fix_text

# The 45 files that WordNet's synsets were written in (lexnames(5WN)), numbered from 0, with their part of speech.
LEXNAMES = """adj.all 3|adj.pert 3|adv.all 4|noun.Tops 1|noun.act 1|noun.animal 1|noun.artifact 1|noun.attribute 1
noun.body 1|noun.cognition 1|noun.communication 1|noun.event 1|noun.feeling 1|noun.food 1|noun.group 1
noun.location 1|noun.motive 1|noun.object 1|noun.person 1|noun.phenomenon 1|noun.plant 1|noun.possession 1
noun.process 1|noun.quantity 1|noun.relation 1|noun.shape 1|noun.state 1|noun.substance 1|noun.time 1
verb.body 2|verb.change 2|verb.cognition 2|verb.communication 2|verb.competition 2|verb.consumption 2
verb.contact 2|verb.creation 2|verb.emotion 2|verb.motion 2|verb.perception 2|verb.possession 2|verb.social 2
verb.stative 2|verb.weather 2|adj.ppl 3""".replace("\n", "|").split("|")
WORDNET = [
    f"{kind}.{part}" for part in ("adj", "adv", "noun", "verb") for kind in ("index", "data")
]
WORDNET += [f"{part}.exc" for part in ("adj", "adv", "noun", "verb")] + [
    "cntlist.rev",
    "index.sense",
]


def missing() -> str | None:
    """Return why the oracle cannot be asked here, if so."""
    try:
        from nltk.corpus import wordnet
        from nltk.tokenize import word_tokenize

        wordnet.synset("dog.n.01")
        word_tokenize("a dog")
    except ModuleNotFoundError as error:
        if error.name != "nltk":
            raise
        return "nltk is in the extra `oracle`"
    except LookupError:
        return "NLTK's data is not laid: see tests/labels/oracle.py"
    return None


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


def words(caption: str) -> list[str]:
    from nltk.tokenize import word_tokenize

    return word_tokenize(clean_caption_as_released(caption))


def labels(caption: str) -> list[str]:
    return [key for word in words(caption) if (key := find_synset_key_with_nltk(word))]


def lay(wordnet: Path, cache: Path, out: Path) -> None:
    """Lay NLTK's data: WordNet 3.0 from Debian, Punkt from the cache in llama-index-core's wheel."""
    folder = out / "corpora/wordnet"
    folder.mkdir(parents=True, exist_ok=True)
    for name in WORDNET:
        shutil.copyfile(wordnet / name, folder / name)
    rows = (f"{number:02d}\t{name.replace(' ', chr(9))}\n" for number, name in enumerate(LEXNAMES))
    (folder / "lexnames").write_text("".join(rows), encoding="ascii")
    punkt = Path("tokenizers/punkt_tab/english")
    shutil.copytree(cache / punkt, out / punkt, dirs_exist_ok=True)


if __name__ == "__main__":
    lay(*map(Path, sys.argv[1:]))
