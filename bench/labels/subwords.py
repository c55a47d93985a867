"""Captions to subword tokens: OpenAI CLIP's byte-pair encoding as open_clip ships it, and SuperClass's labels."""

import re
from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
import pyarrow as pa
from open_clip.tokenizer import SimpleTokenizer, get_clean_fn

from bench.labels.label_rule import LABEL_LISTS
from bench.labels.vocabulary import SUBWORD, read_vocabulary

ALL_SUBWORDS = "all"
# The bytes of a caption that are encoded: no context holds more, and a word's cost is quadratic in its length.
MAX_CAPTION_BYTES = 2048
MAX_CACHED_WORDS = 2**20  # words in the tokenizer's cache, about 250 MB
# ASCII without control characters and "&": there is nothing to repair.
PLAIN_TEXT = re.compile("[ -%'-~]*")
repair_text = get_clean_fn("lower")  # with ftfy, which takes a third of the time of encoding


@cache
def get_clip_tokenizer() -> SimpleTokenizer:
    """Return CLIP's tokenizer of open_clip, made once per process; it repairs only texts that may need it."""
    created = SimpleTokenizer()
    created.clean_fn = clean_like_open_clip
    return created


def clean_like_open_clip(text: str) -> str:
    """Return a caption in lower case, repaired and with single spaces, as open_clip does."""
    if PLAIN_TEXT.fullmatch(text):
        return " ".join(text.split()).lower()
    return str(repair_text(text))


def encode_caption_without_start_and_end(caption: str) -> list[int]:
    """Return the token ids of a caption without start and end token; it is cut after 2 KiB."""
    if len(get_clip_tokenizer().cache) > MAX_CACHED_WORDS:
        get_clip_tokenizer.cache_clear()
    if 4 * len(caption) > MAX_CAPTION_BYTES:
        caption = caption.encode(errors="replace")[:MAX_CAPTION_BYTES].decode(errors="ignore")
    ids: list[int] = get_clip_tokenizer().encode(caption)
    return ids


class SubwordRule:
    """SuperClass's rule: the token ids of a caption, each once (k-hot targets), without start, end and padding."""

    name = "subword"

    def __init__(self) -> None:
        self._subwords = get_clip_tokenizer().decoder
        self.keys: Sequence[str] = list(map(str, range(len(self._subwords))))

    def title(self, label: int) -> str:
        """Return the subword; `</w>` ends a word."""
        return str(self._subwords[label])

    def gloss(self, _label: int) -> str:
        return ""

    def label_ids(self, captions: pa.StringArray) -> pa.ListArray:
        rows = []
        for text in captions.to_pylist():
            ids = encode_caption_without_start_and_end(text or "")
            rows.append(list(dict.fromkeys(ids)))
        return pa.array(rows, LABEL_LISTS)


class SubwordEncoder:
    """Encodes captions as ids of subwords: of all of the tokenizer, or of those of a vocabulary, numbered anew.

    The order of the tokenizer's ids is kept, so that the end token has the largest id in both and open_clip's pooling
    (`argmax`) finds it. Id 0 pads.
    """

    def __init__(self, vocabulary: str) -> None:
        self.start = int(get_clip_tokenizer().sot_token_id)
        self.end = int(get_clip_tokenizer().eot_token_id)
        tokenizer_ids = list(range(self.end + 1))
        if vocabulary != ALL_SUBWORDS:
            content = read_vocabulary(vocabulary)
            if content.rule != SUBWORD:
                raise ValueError(
                    f"the vocabulary {vocabulary} is of the rule {content.rule!r}, expected {SUBWORD!r}"
                )
            label_ids = [int(key) for key in content.keys]
            tokenizer_ids = sorted({0, self.start, self.end, *label_ids})
        self.size = len(tokenizer_ids)
        # Id of each tokenizer id; -1: left out.
        self.id_map = np.full(self.end + 1, -1)
        self.id_map[tokenizer_ids] = range(self.size)
        start, end = self.id_map[[self.start, self.end]].tolist()
        self.start_and_end: tuple[int, int] = (start, end)

    def encode_without_start_and_end(self, captions: Iterable[str]) -> list[list[int]]:
        """Return the ids of each caption without start and end token; subwords outside the vocabulary are left out."""
        encoded = []
        for caption in captions:
            ids = self.id_map[encode_caption_without_start_and_end(caption)]
            encoded.append(ids[ids >= 0].tolist())
        return encoded
