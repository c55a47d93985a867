"""The choice of captions: in which fields of a sample they are, and which text of these a training reads.

A text `FIELD[@FILES][:PROBABILITY];...` states it: "txt:0.5;json.llava:0.5". No torch here.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import cast

from bench.data.captions.batches import (
    CAPTION_COLUMNS,
    JSON_KINDS,
    MAX_CAPTION_BYTES,
    MISSING,
    NO_CAPTION,
    NOT_JSON,
    NULL,
    TOO_LONG,
    encode_original_bytes,
    find_column,
)
from bench.environment.seeds import CAPTION, derive_seed
from bench.experiment.config import MAX_NAME_LENGTH

EXPECTED = "expected FIELD[@FILES][:PROBABILITY], several with a semicolon between them, as txt:0.5;json.llava:0.5"
EMPTY_LIST = "the caption is an empty list"
NOT_AN_OBJECT = object()  # in place of the content of a JSON member that is no object
MAX_DEVIATION = 1e-6  # of the sum of probabilities from 1
MAX_NAMED_DEPTH = 3  # of objects in objects, of whose texts a message has the names
SEEDS = 2**63  # number of values of `derive_seed`

Texts = tuple[tuple[str, ...], ...]  # of a sample by field: none where it has no such field, several of a list


@dataclass(frozen=True, slots=True)
class CaptionField:
    """A place of captions, and how often they are read."""

    name: str = ""  # of a tar member, a column, or a path into an object ("json.llava"); empty: found by its name
    probability: float = 1.0  # of being drawn; 0: only for samples that have no other
    file: str = ""  # file or glob of parquet files whose captions are joined by key; empty: the sample itself

    def __str__(self) -> str:
        """Return the field as it is given; it is also the name of a joined caption in a sample's values."""
        return f"{self.name}@{self.file}" if self.file else self.name


@dataclass(frozen=True, slots=True)
class CaptionChoice:
    """The fields in which captions are; by default one, found by its name."""

    fields: tuple[CaptionField, ...] = (CaptionField(),)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the fields of samples themselves; "": found by its name."""
        return tuple(field.name for field in self.fields if not field.file)

    @property
    def is_drawn(self) -> bool:
        """Return whether samples may have texts of several fields to draw from; lists aside."""
        return sum(field.probability > 0 for field in self.fields) > 1

    def read(self, values: Mapping[str, object]) -> tuple[Texts, str]:
        """Return the texts of a sample by field, and its flaw or "".

        Blank texts are left out beside others. `values` are a tar sample's caption members by suffix (texts, or decoded
        JSON, or NOT_AN_OBJECT), or a row's columns; joined captions have the names of their fields. Bytes that are not
        UTF-8 are surrogates, in the texts as in the values.
        """
        found = [_read_field(field, values) for field in self.fields]
        texts = tuple(texts for texts, _ in found)
        if any(text.strip() for each in texts for text in each):
            return tuple(tuple(text for text in each if text.strip()) for each in texts), ""
        flaws = [*dict.fromkeys(flaw for _, flaw in found)]
        return texts, "" if any(texts) else flaws[0] if len(flaws) == 1 else NO_CAPTION

    def only_text(self, values: Mapping[str, object]) -> str | None:
        """Return the text of a sample that has no other value, of a choice of one field: `read` returns it alone.

        None where only `read` can tell. Nearly all rows are such, and `read` takes several times as long.
        """
        if len(values) != 1 or len(self.fields) != 1:
            return None
        ((name, text),) = values.items()
        wanted = self.fields[0].name
        is_named = name == wanted if wanted else name in CAPTION_COLUMNS
        is_short = isinstance(text, str) and len(text) <= MAX_CAPTION_BYTES // 4
        return cast("str", text) if is_named and is_short and not self.fields[0].file else None

    def options(self, texts: Texts) -> list[tuple[str, float]]:
        """Return the texts that may be read of a sample, with their weights: a field's is shared by its texts.

        Where no field of the sample has a probability above 0, the first one with a text is read.
        """
        there = [(each, field.probability) for each, field in zip(texts, self.fields, strict=True) if each]
        if not any(probability for _, probability in there):
            there = [(each, 1.0) for each, _ in there[:1]]
        return [(text, probability / len(each)) for each, probability in there if probability for text in each]

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
    parts = [_parse_field(part.strip()) for part in text.split(";")]
    names = [(name, file) for name, file, _ in parts]
    if ("", "") in names:
        raise ValueError(f"caption {text!r} has an empty field; {EXPECTED}")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"caption {text!r} names {CaptionField(twice[0][0], file=twice[0][1])} twice; {EXPECTED}")
    given = [probability for *_, probability in parts if probability is not None]
    if given and len(given) < len(parts):
        raise ValueError(
            f"caption {text!r} has probabilities for {len(given)} of {len(parts)} fields; give all or none"
        )
    if wrong := [probability for probability in given if not 0 <= probability <= 1]:
        raise ValueError(f"caption {text!r} has the probability {wrong[0]:g}, expected 0 to 1")
    if given and abs(sum(given) - 1) > MAX_DEVIATION:
        raise ValueError(f"caption {text!r} has probabilities that sum to {sum(given):g}, expected 1")
    shares = given or [1 / len(parts)] * len(parts)
    return CaptionChoice(
        tuple(CaptionField(name, share, file) for (name, file), share in zip(names, shares, strict=True))
    )


def to_valid_text(text: str) -> str:
    """Return a text without surrogates: U+FFFD in place of bytes that are not UTF-8."""
    return text if text.isascii() else (encode_original_bytes(text) or b"").decode("utf-8", "replace")


def text_names(values: Mapping[str, object], prefix: str = "") -> Iterator[str]:
    """Yield the names of the texts and lists of a sample, as a choice names them; not of those that are nested deep."""
    for name, value in values.items():
        if isinstance(value, str | list | tuple):
            yield f"{prefix}{name}"
        elif isinstance(value, Mapping) and prefix.count(".") < MAX_NAMED_DEPTH:
            yield from text_names(value, f"{prefix}{name}.")


def _parse_field(part: str) -> tuple[str, str, float | None]:
    """Return a field's name, its files and its probability, if it has one."""
    before, colon, after = part.rpartition(":")
    probability: float | None = None
    with suppress(ValueError):  # a name with a colon
        part, probability = (before, float(after)) if colon else (part, None)
    name, _, file = part.partition("@")
    return name, file, probability


def _read_field(field: CaptionField, values: Mapping[str, object]) -> tuple[tuple[str, ...], str]:
    """Return the texts of a field and its flaw or ""."""
    name = str(field)
    value = values.get(name, MISSING) if field.file else _find_value(values, name)
    if value is MISSING and field.file:
        return (), f"no key in {field.file}"
    if isinstance(value, str):
        return ((value,), "") if not _is_too_long(value) else ((), TOO_LONG)
    inner = MISSING if field.file else values.get("json", MISSING)  # a tar sample's metadata
    if value is MISSING:
        value = _find_value(inner, name) if isinstance(inner, Mapping) else inner if _is_null_value(inner) else MISSING
    texts, flaw = _to_texts(value, name or _known_name(values) or _known_name(inner) or "the caption")
    short = tuple(text for text in texts if not _is_too_long(text))
    return short, TOO_LONG if texts and not short else flaw


def _known_name(values: object) -> str | None:
    """Return the first name among values that is known for captions."""
    return find_column([*values], CAPTION_COLUMNS) if isinstance(values, Mapping) else None


def _find_value(values: Mapping[str, object], name: str) -> object:
    """Return the value of a name, of a path into objects, whose names may have dots, or of the first known name."""
    name = name or _known_name(values) or ""
    if name in values:
        return values[name]
    words = name.split(".")
    for count in range(len(words) - 1, 0, -1):
        head, rest = ".".join(words[:count]), ".".join(words[count:])
        if head in values:
            inner = values[head]
            return (
                _find_value(inner, rest) if isinstance(inner, Mapping) else inner if _is_null_value(inner) else MISSING
            )
    return MISSING


def _to_texts(value: object, name: str) -> tuple[tuple[str, ...], str]:
    """Return the texts of a value, and its flaw or ""."""
    if isinstance(value, str):
        return (value,), ""
    if _is_null_value(value):
        return (), NO_CAPTION if value is MISSING else NULL if value is None else NOT_JSON
    name = name[:MAX_NAME_LENGTH]
    if not isinstance(value, list | tuple):
        return (), f"{name} holds {JSON_KINDS.get(type(value), 'a number')}, expected a text"
    texts = tuple(text for text in value if isinstance(text, str))
    if not texts and any(one is not None for one in value):
        return (), f"{name} is a list without a text"
    return texts, "" if texts else EMPTY_LIST


def _is_null_value(value: object) -> bool:
    return value is None or value is MISSING or value is NOT_AN_OBJECT


def _is_too_long(text: str) -> bool:
    """Return whether a text has more bytes than a caption may; a character has at most four."""
    return len(text) > MAX_CAPTION_BYTES // 4 and len(encode_original_bytes(text) or b"") > MAX_CAPTION_BYTES
