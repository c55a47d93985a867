"""Reads the texts of samples by a choice of captions, and counts which fields the samples have."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

import msgspec

from bench.data.captions.choice import CaptionChoice, FieldTexts, TextsByField
from bench.data.columns import (
    CAPTION_COLUMNS,
    CAPTION_SUFFIXES,
    KEY_COLUMNS,
    SampleValues,
    find_columns_of_caption_fields,
    find_first_known_column,
    part_after_last_dot,
)
from bench.experiment.config import MAX_LISTED_NAMES, MAX_NAME_LENGTH, join_first_names_shortened

MAX_CAPTION_BYTES = 4 * 2**20  # a longer caption is left out
NO_CAPTION = "no caption"  # why a sample cannot be used
NAMED_SAMPLES = 20  # samples whose names of texts are collected for messages
SEVERAL_WORDS = re.compile(r"[^\W\d_] +[^\W\d_]|[^\W\d_A-z]{2}")  # or letters of another script
REPLACED = "\ufffd"  # in a text that was not UTF-8


class CaptionFieldCounts(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The number of samples with a text in each field that is read, and the names of texts for messages."""

    samples: dict[str, int] = {}  # with a text, by field
    names: dict[str, None] = {}  # of texts in the first samples

    def add_samples_with_text(self, field: str, samples: int = 1) -> None:
        """Add samples that have a text in a field."""
        self.samples[field] = self.samples.get(field, 0) + samples

    def add_text_names_up_to_limit(self, names: Iterable[str]) -> None:
        """Add names of texts, at most MAX_LISTED_NAMES in all."""
        room = max(0, MAX_LISTED_NAMES - len(self.names))
        for name in islice(names, room):
            self.names[name[:MAX_NAME_LENGTH]] = None

    def add(self, other: "CaptionFieldCounts") -> None:
        """Add the counts of other files."""
        for field, samples in other.samples.items():
            self.add_samples_with_text(field, samples)
        self.add_text_names_up_to_limit(other.names)

    def describe_read_and_unread_fields(self) -> str:
        """Say which fields are read, and which other texts the first samples have."""
        fields = list(self.samples)
        roots = [field.partition(".")[0] for field in fields]
        read = {*fields, *roots}
        others = [
            name for name in self.names if read.isdisjoint({name, name.removeprefix("json.")})
        ]
        sentence = f"captions are read from {join_first_names_shortened(fields)}"
        if others:
            sentence += (
                f"; not read: {join_first_names_shortened(others)} (others with --caption-fields)"
            )
        return sentence

    def require_fields(self, choice: CaptionChoice) -> None:
        """Raise ValueError for a field of the choice that no sample has."""
        missing = [name for name in choice.field_names if name and not self.samples.get(name)]
        if missing or not self.samples:
            wanted = f" in {missing[0]!r}" if missing else ""
            names = join_first_names_shortened(sorted(self.names.keys() - missing))
            others = (
                " and no other text with a known name: name a suffix or field with --caption-fields"
            )
            if names:
                others = f" (there are {names}): name one with --caption-fields"
            raise ValueError(f"no sample has a caption{wanted}{others}")


class CaptionReader:
    """Reads the texts of samples by a choice: of rows of a table, or of samples of tar files."""

    def __init__(self, choice: CaptionChoice, counts: CaptionFieldCounts | None = None) -> None:
        self.choice = choice
        self.counts = counts or CaptionFieldCounts()
        self.column = ""  # of a table, if the choice is this column alone
        self._num_unnamed = NAMED_SAMPLES  # samples whose names of texts are still collected

    @property
    def suffixes_to_read(self) -> set[str]:
        """Suffixes of texts: those known for captions, and those of the choice."""
        named = map(part_after_last_dot, self.choice.field_names)
        return {*CAPTION_SUFFIXES, *filter(None, named)}

    def find_needed_columns(
        self,
        column_names: Sequence[str],
        text_columns: Sequence[str],
        first_rows: Iterable[SampleValues],
    ) -> list[str]:
        """Return the columns of a table that `read` needs.

        `column_names` are all columns, `text_columns` those of texts. If no name is known, the caption is the only
        text with several words in the first rows. ValueError lists the columns if one is missing.
        """
        texts = [name for name in text_columns if name.lower() not in KEY_COLUMNS]
        self.counts.add_text_names_up_to_limit(texts)
        self._num_unnamed = 0
        fields = self.choice.field_names
        if fields == ("",):
            known = find_first_known_column(column_names, CAPTION_COLUMNS)
            if known is None:
                known = _find_only_multiword_text(texts, first_rows)
            if known is None:
                others = join_first_names_shortened(text_columns)
                raise ValueError(
                    f"no column has a name known for captions (there are {others}): name it with --caption-fields"
                )
            fields = (known,)
        columns = find_columns_of_caption_fields(column_names, fields)
        if fields == (columns[0],):
            self.column = columns[0]
        return columns

    def read(self, values: SampleValues) -> TextsByField:
        """Return the texts of a sample by field.

        Blank texts are left out beside others. `values` are the columns of a row, or the texts and JSON objects of a
        tar sample by their suffixes. Without a choice, the caption of a tar sample is the .txt, another suffix with a
        known name, or the text in the .json with a known name.
        """
        text = values.get(self.column)
        if isinstance(text, str) and len(text) <= MAX_CAPTION_BYTES // 4:
            # Nearly all rows: what follows takes several times as long.
            self.counts.add_samples_with_text(self.column)
            return ((text,),)
        if self._num_unnamed:
            self._num_unnamed -= 1
            self.counts.add_text_names_up_to_limit(name for name, _ in _iterate_named_texts(values))
        texts = tuple(self._read_field(name, values) for name in self.choice.field_names)
        nonblank = tuple(tuple(filter(str.strip, field_texts)) for field_texts in texts)
        return nonblank if any(nonblank) else texts

    def _read_field(self, name: str, values: SampleValues) -> FieldTexts:
        """Return the texts of a field, which may be in the .json of a tar sample."""
        field = name or self.column or _find_caption_field_or_empty(values)
        value = _value_at_dotted_path(values, field)
        if value is None and "json" in values:
            value = _value_at_dotted_path(values["json"], field)
        texts = _extract_caption_texts(value)
        if texts:
            self.counts.add_samples_with_text(field)
        return texts


def _find_caption_field_or_empty(values: SampleValues) -> str:
    """Return the field of a tar sample's caption; empty if no name is known."""
    if "txt" in values:
        return "txt"
    name = find_first_known_column(values, CAPTION_COLUMNS)
    if name:
        return name
    fields = values.get("json")
    if isinstance(fields, Mapping):
        name = find_first_known_column(fields, CAPTION_COLUMNS)
    return f"json.{name}" if name else ""


def _find_only_multiword_text(names: Sequence[str], rows: Iterable[SampleValues]) -> str | None:
    """Return the only text with several words in the rows; None if there are more, or none."""
    multiword_names = set[str]()
    for row in rows:
        for name in names:
            if SEVERAL_WORDS.search(str(row.get(name))):
                multiword_names.add(name)
    return multiword_names.pop() if len(multiword_names) == 1 else None


def _value_at_dotted_path(values: object, dotted_path: str) -> object:
    """Return the value at a path into objects, whose names may have dots; None if there is none."""
    if not isinstance(values, Mapping):
        return None
    if dotted_path in values:
        return values[dotted_path]
    for name, value in values.items():
        prefix = f"{name}."
        if dotted_path.startswith(prefix):
            return _value_at_dotted_path(value, dotted_path.removeprefix(prefix))
    return None


def _extract_caption_texts(value: object) -> FieldTexts:
    """Return the texts of a value: a text, a list of texts, or a conversation's answers; long ones are left out."""
    texts = []
    for item in value if isinstance(value, list) else [value]:
        text = _assistant_text(item) if isinstance(item, Mapping) else item
        if isinstance(text, str) and len(text.encode()) <= MAX_CAPTION_BYTES:
            texts.append(text)
    return tuple(texts)


def _assistant_text(turn: Mapping[str, object]) -> object:
    """Return the text of a model's turn in a conversation, as LLaVA and OpenAI write it; None for other turns."""
    if turn.get("from", turn.get("role")) in ("gpt", "assistant"):
        return turn.get("value", turn.get("content"))
    return None


def _iterate_named_texts(values: SampleValues) -> Iterator[tuple[str, FieldTexts]]:
    """Yield the name and the texts of each field of a sample that has any; keys are left out."""
    for suffix, value in values.items():
        fields = {suffix: value}
        if isinstance(value, Mapping):
            fields = {f"{suffix}.{name}": field for name, field in value.items()}
        for name, field in fields.items():
            texts = _extract_caption_texts(field)
            if texts and name.rpartition(".")[2].lower() not in KEY_COLUMNS:
                yield name, texts
