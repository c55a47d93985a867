"""The choice of captions: in which fields of a sample they are, and which text of these a training reads.

A text `FIELD[:PROBABILITY];...` states it: "txt:0.5;json.llava:0.5". No torch here.
"""

from bisect import bisect_right
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate

from bench.environment.seeds import CAPTION, derive_seed

EXPECTED = (
    "expected FIELD[:PROBABILITY], several with a semicolon between them, as txt:0.5;json.llava:0.5"
)
MAX_DEVIATION = 1e-6  # of the sum of probabilities from 1
SEEDS = 2**63  # number of values of `derive_seed`

# Texts of a sample by field of the choice: none where it has no such field, several of a list.
FieldTexts = tuple[str, ...]
TextsByField = tuple[FieldTexts, ...]


@dataclass(frozen=True, slots=True)
class CaptionField:
    """A field of samples that holds captions, and the probability that its captions are read."""

    name: str = ""  # of a tar member, a column, or a path into an object ("json.llava"); empty: found by its name
    probability: float = 1.0  # of being drawn; 0: only for samples that have no other


@dataclass(frozen=True, slots=True)
class CaptionChoice:
    """The fields from which captions are drawn; by default one, found by its name."""

    fields: tuple[CaptionField, ...] = (CaptionField(),)

    @property
    def field_names(self) -> tuple[str, ...]:
        """Names of the fields; "": found by its name."""
        return tuple(field.name for field in self.fields)

    def weighted_texts(self, texts: TextsByField) -> list[tuple[str, float]]:
        """Return the texts of a sample that may be drawn, with weights: the texts of a field share its probability.

        Where no field of the sample has a probability above 0, the first one with a text is read.
        """
        options = []
        for field, field_texts in zip(self.fields, texts, strict=True):
            if field.probability and field_texts:
                weight = field.probability / len(field_texts)
                options += [(text, weight) for text in field_texts]
        if options:
            return options
        for field_texts in texts:
            if field_texts:
                return [(text, 1 / len(field_texts)) for text in field_texts]
        return []

    def draw(self, texts: TextsByField, seed: int, row: int, epoch: int) -> str:
        """Draw one of a sample's texts by the experiment's seed, the sample's row and the epoch; "" if it has none."""
        options = self.weighted_texts(texts)
        if not options:
            return ""
        index = 0
        if len(options) > 1:
            ends = list(accumulate(weight for _, weight in options))
            fraction = derive_seed(seed, CAPTION, row, epoch) / SEEDS
            index = bisect_right(ends, fraction * ends[-1])
        text, _ = options[min(index, len(options) - 1)]
        return text


def parse_caption_choice(caption_option: str | None) -> CaptionChoice:
    """Parse the value of `--caption-fields`; None: one field, found by its name. ValueError for a malformed value."""
    if caption_option is None:
        return CaptionChoice()
    names = []
    probabilities = []
    for part in caption_option.split(";"):
        name, probability = _split_name_and_probability(part.strip())
        names.append(name)
        if probability is not None:
            probabilities.append(probability)
    is_repeated = len(set(names)) < len(names)
    if "" in names or is_repeated or not caption_option.isprintable():
        raise ValueError(
            f"caption {caption_option!r} has a field without a name, or one twice; {EXPECTED}"
        )
    if not probabilities:
        probabilities = [1 / len(names)] * len(names)
    is_complete = len(probabilities) == len(names)
    is_in_range = all(0 <= probability <= 1 for probability in probabilities)
    is_sum_one = abs(sum(probabilities) - 1) <= MAX_DEVIATION
    if not (is_complete and is_in_range and is_sum_one):
        raise ValueError(
            f"caption {caption_option!r}: give no probability, or one from 0 to 1 of each field, which sum to 1"
        )
    fields = [CaptionField(*field) for field in zip(names, probabilities, strict=True)]
    return CaptionChoice(tuple(fields))


def _split_name_and_probability(part: str) -> tuple[str, float | None]:
    """Split a field's name from its probability, if it has one: a name may have colons, too."""
    name, colon, probability = part.rpartition(":")
    if colon:
        with suppress(ValueError):
            return name.rstrip(), float(probability)
    return part, None
