"""Why samples of a shard are unusable: the arrangement of their members, and the suffixes of those that are there."""

from collections import Counter
from collections.abc import Iterable

from bench.data.shards.tar_samples import CAPTION_SUFFIXES
from bench.tables.formats import join_words, pluralize

NOT_ADJACENT, DIFFERENT_FOLDERS = "apart", "in different folders"  # arrangements of members that lose samples
DOTTED_NAMES = "a name with several dots"  # another one, and a reason why samples cannot be used
ADVICE = {  # the words for one, those for several, and the rest of the sentence
    NOT_ADJACENT: (
        "key has",
        "keys have",
        "an image and a caption that are not adjacent: write the shards with tar --sort=name",
    ),
    DIFFERENT_FOLDERS: (
        "pair of an image and a caption lies",
        "pairs of an image and a caption lie",
        "in different folders of the archive: put them into one folder",
    ),
    DOTTED_NAMES: (
        "name has",
        "names have",
        "several dots: the key ends at the first, a.front.view.jpg has the key a. Replace the others: a_front_view.jpg",
    ),
}
MAX_SUFFIX_LENGTH, MAX_SUFFIXES, KEPT_SUFFIXES = 8, 4, 100  # characters of a suffix; suffixes in a message, of a shard


class LayoutCheck:
    """Collects the samples of a shard; `suffixes` are the images' or embeddings'."""

    def __init__(self, suffixes: tuple[str, ...]) -> None:
        self.suffixes = Counter[str]()  # of the members of incomplete samples
        self.dotted = 0  # samples that are lost to an earlier one, whose names are equal up to the first dot
        self._image_suffixes = suffixes
        self._images, self._captions = set[str](), set[str]()  # keys of samples with only one of them

    def add(self, key: str, members: Iterable[str], image: str | None, *, is_complete: bool) -> None:
        """Add a sample by its key, the suffixes of its members, and that of the image that is read."""
        split = [suffix.rpartition(".") for suffix in members]
        images = {stem for stem, _, last in split if last in self._image_suffixes}
        captions = {stem for stem, _, last in split if last in CAPTION_SUFFIXES}
        # a.front.jpg is another view of a; with a.front.txt it is a sample of its own
        self.dotted += len(images & captions - {"", (image or "").rpartition(".")[0]})
        if is_complete:
            return
        self.suffixes.update(last[:MAX_SUFFIX_LENGTH] for _, _, last in split)
        if bool(images) != bool(captions):
            (self._images if images else self._captions).add(key)

    @property
    def counts(self) -> dict[str, int]:
        """Number of samples or images that are counted as lacking something, by arrangement, without zeros."""
        names = [{key.rpartition("/")[2] for key in keys} for keys in (self._images, self._captions)]
        apart = len(self._images & self._captions)
        counts = {NOT_ADJACENT: apart, DIFFERENT_FOLDERS: 0 if apart else len(names[0] & names[1])}
        return {name: count for name, count in counts.items() if count}


def layout_advice(counts: Counter[str]) -> list[str]:
    """Return a sentence on each arrangement that loses samples, with its remedy."""
    return [
        f"{pluralize(counts[name], one, several)} {rest}"
        for name, (one, several, rest) in ADVICE.items()
        if counts[name]
    ]


def format_suffixes(counts: Counter[str]) -> str:
    """Format counts of suffixes, the most frequent first: "400 .jpg, 2 .gif and 3 others"."""
    common = counts.most_common(MAX_SUFFIXES)
    texts = [f"{count:,} .{suffix}" if suffix else f"{count:,} without a suffix" for suffix, count in common]
    if more := counts.total() - sum(count for _, count in common):
        texts.append(f"{more:,} others")
    return join_words(texts)
