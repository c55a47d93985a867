"""The choice of captions: in which fields of a sample they are, and which text of these a training reads.

A text `FIELD[:PROBABILITY];...` states it: "txt:0.5;json.llava:0.5". No torch here.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate

from bench.data.captions.batches import (
    CAPTION_COLUMNS,
    JSON_KINDS,
    MAX_CAPTION_BYTES,
    NO_CAPTION,
    NOT_JSON,
    NULL,
    TOO_LONG,
    encode_original_bytes,
    find_column,
)
from bench.environment.seeds import CAPTION, derive_seed
from bench.experiment.config import MAX_NAME_LENGTH

EXPECTED = (
    "expected FIELD[:PROBABILITY], several with a semicolon between them, as txt:0.5;json.llava:0.5"
)
EMPTY_LIST = "the caption is an empty list"
MISSING = object()  # in place of the value of a field that is not there
NOT_AN_OBJECT = object()  # in place of the content of a JSON member that is no object
MAX_DEVIATION = 1e-6  # of the sum of probabilities from 1
MAX_NAMED_DEPTH = 3  # of objects in objects, of whose texts a message has the names
SEEDS = 2**63  # number of values of `derive_seed`

# Of a sample by field: none where it has no such field, several of a list.
Texts = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class CaptionField:
    """A place of captions, and how often they are read."""

    name: str = ""  # of a tar member, a column, or a path into an object ("json.llava"); empty: found by its name
    probability: float = 1.0  # of being drawn; 0: only for samples that have no other


@dataclass(frozen=True, slots=True)
class CaptionChoice:
    """The fields in which captions are; by default one, found by its name."""

    fields: tuple[CaptionField, ...] = (CaptionField(),)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the fields; "": found by its name."""
        return tuple(field.name for field in self.fields)

    @property
    def is_drawn(self) -> bool:
        """Whether samples may have texts of several fields to draw from; lists aside."""
        return sum(field.probability > 0 for field in self.fields) > 1

    def read(self, values: Mapping[str, object]) -> tuple[Texts, str]:
        """Return the texts of a sample by field, and its flaw or "".

        Blank texts are left out beside others. `values` are a tar sample's caption members by suffix (texts, or decoded
        JSON, or NOT_AN_OBJECT), or a row's columns. Bytes that are not UTF-8 are surrogates.
        """
        texts, flaws = zip(*(_read_field(name, values) for name in self.names), strict=True)
        if any(text.strip() for field_texts in texts for text in field_texts):
            return tuple(
                tuple(text for text in field_texts if text.strip()) for field_texts in texts
            ), ""
        if any(texts):
            return texts, ""
        return texts, flaws[0] if len({*flaws}) == 1 else NO_CAPTION

    def only_text(self, values: Mapping[str, object]) -> str | None:
        """Return the text of a sample that has no other value, of a choice of one field; None where `read` has to tell.

        Nearly all rows are such, and `read` takes several times as long.
        """
        if len(values) != 1 or len(self.fields) != 1:
            return None
        ((name, text),) = values.items()
        wanted = self.fields[0].name
        is_named = name == wanted if wanted else name in CAPTION_COLUMNS
        return (
            text
            if is_named and isinstance(text, str) and len(text) <= MAX_CAPTION_BYTES // 4
            else None
        )

    def options(self, texts: Texts) -> list[tuple[str, float]]:
        """Return the texts that may be read of a sample, with their weights: a field's is shared by its texts.

        Where no field of the sample has a probability above 0, the first one with a text is read.
        """
        options = []
        for field, field_texts in zip(self.fields, texts, strict=True):
            if field.probability:
                options += [(text, field.probability / len(field_texts)) for text in field_texts]
        if options:
            return options
        first = next(filter(None, texts), ())
        return [(text, 1 / len(first)) for text in first]

    def draw(self, texts: Texts, seed: int, row: int, epoch: int) -> str:
        """Return one of a sample's texts, by the seed of the experiment, the sample's row and the epoch; else ""."""
        options = self.options(texts)
        if len(options) < 2:  # noqa: PLR2004
            return options[0][0] if options else ""
        ends = [*accumulate(weight for _, weight in options)]
        drawn = bisect_right(ends, derive_seed(seed, CAPTION, row, epoch) / SEEDS * ends[-1])
        return options[min(drawn, len(options) - 1)][0]


FOUND_BY_NAME = CaptionChoice()


def parse_caption_choice(text: str | None) -> CaptionChoice:
    """Return the choice that a text states; None: one field, found by its name. ValueError for another text."""
    if text is None:
        return FOUND_BY_NAME
    if not text.isprintable():
        raise ValueError(f"caption {text!r} has characters that cannot be shown; {EXPECTED}")
    fields = [_parse_field(part.strip()) for part in text.split(";")]
    names = [name for name, _ in fields]
    given = [probability for _, probability in fields if probability is not None]
    if "" in names:
        raise ValueError(f"caption {text!r} has an empty field; {EXPECTED}")
    if len({*names}) < len(names):
        raise ValueError(f"caption {text!r} names a field twice; {EXPECTED}")
    if not given:
        given = [1 / len(names)] * len(names)
    if len(given) < len(names):
        raise ValueError(
            f"caption {text!r} has probabilities for {len(given)} of {len(names)} fields; give all or none"
        )
    if not all(0 <= probability <= 1 for probability in given):
        raise ValueError(f"caption {text!r} has a probability that is not between 0 and 1")
    if abs(sum(given) - 1) > MAX_DEVIATION:
        raise ValueError(
            f"caption {text!r} has probabilities that sum to {sum(given):g}, expected 1"
        )
    return CaptionChoice(tuple(map(CaptionField, names, given)))


def to_valid_text(text: str) -> str:
    """Return a text without surrogates: U+FFFD in place of bytes that are not UTF-8."""
    return (
        text if text.isascii() else (encode_original_bytes(text) or b"").decode("utf-8", "replace")
    )


def text_names(values: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    """Yield the names of the texts and lists of a sample, as a choice names them; not of those that are nested deep."""
    for name, value in values.items():
        if isinstance(value, str | list | tuple):
            yield f"{prefix}{name}"
        elif isinstance(value, Mapping) and prefix.count(".") < MAX_NAMED_DEPTH:
            yield from text_names(value, f"{prefix}{name}.")


def _parse_field(part: str) -> tuple[str, float | None]:
    """Return a field's name, and its probability if it has one: a name may have colons, too."""
    name, colon, probability = part.rpartition(":")
    if colon:
        with suppress(ValueError):
            return name, float(probability)
    return part, None


def _read_field(name: str, values: Mapping[str, object]) -> tuple[tuple[str, ...], str]:
    """Return the texts of a field and its flaw or "": a value of the sample, else one in its `json` (of a tar)."""
    shown = name or _known_name(values)
    value = _find_value(values, shown)
    if value is MISSING and "json" in values:
        shown = name or _known_name(values["json"])
        value = _find_inside(values["json"], shown)
    texts, flaw = _to_texts(value, shown[:MAX_NAME_LENGTH])
    short = tuple(text for text in texts if not _is_too_long(text))
    return short, TOO_LONG if texts and not short else flaw


def _known_name(values: object) -> str:
    """Return the first name among values that is known for captions; empty if there is none."""
    return find_column([*values], CAPTION_COLUMNS) or "" if isinstance(values, Mapping) else ""


def _find_value(values: Mapping[str, object], name: str) -> object:
    """Return the value of a name, or of a path into objects, whose names may have dots; MISSING if there is none."""
    if name in values:
        return values[name]
    words = name.split(".")
    for count in range(len(words) - 1, 0, -1):
        head = ".".join(words[:count])
        if head in values:
            return _find_inside(values[head], ".".join(words[count:]))
    return MISSING


def _find_inside(value: object, name: str) -> object:
    """Return the value of a name in an object; a null and NOT_AN_OBJECT are their own values."""
    if isinstance(value, Mapping):
        return _find_value(value, name)
    return value if value is None or value is NOT_AN_OBJECT else MISSING


def _to_texts(value: object, name: str) -> tuple[tuple[str, ...], str]:
    """Return the texts of a value, and its flaw or ""."""
    if isinstance(value, str):
        return (value,), ""
    if value is MISSING:
        return (), NO_CAPTION
    if value is None:
        return (), NULL
    if value is NOT_AN_OBJECT:
        return (), NOT_JSON
    if not isinstance(value, list | tuple):
        return (), f"{name} holds {JSON_KINDS.get(type(value), 'a number')}, expected a text"
    texts = tuple(text for text in value if isinstance(text, str))
    is_empty = all(item is None for item in value)
    return texts, "" if texts else EMPTY_LIST if is_empty else f"{name} is a list without a text"


def _is_too_long(text: str) -> bool:
    """Return whether a text has more bytes than a caption may; a character has at most four."""
    return (
        len(text) > MAX_CAPTION_BYTES // 4
        and len(encode_original_bytes(text) or b"") > MAX_CAPTION_BYTES
    )
