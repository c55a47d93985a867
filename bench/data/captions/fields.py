"""Which fields of captions samples have: counts, and the names for messages."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from itertools import islice

import msgspec

from bench.data.captions.batches import KEY_COLUMNS, NULL
from bench.data.captions.choice import (
    FOUND_BY_NAME,
    CaptionChoice,
    Texts,
    text_names,
    to_valid_text,
)
from bench.experiment.config import MAX_LISTED_NAMES, MAX_NAME_LENGTH, list_names

NAMED_SAMPLES = 1000  # whose names of fields are collected for messages


class CaptionFieldCounts(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How many samples have a text in each field of a choice, and the names of texts that a message needs."""

    samples: dict[str, int] = {}  # with a text, by field
    names: dict[str, None] = {}  # of texts that there are, the first ones
    known: dict[str, None] = {}  # names that a field was found by, of the first samples

    def count(self, field: str, samples: int = 1) -> None:
        """Add samples that have a text in a field."""
        self.samples[field] = self.samples.get(field, 0) + samples

    def add_names(self, names: Iterable[str]) -> None:
        """Add names, unless there are many already."""
        room = max(0, MAX_LISTED_NAMES - len(self.names))
        self.names |= dict.fromkeys(
            to_valid_text(name[:MAX_NAME_LENGTH]) for name in islice(names, room)
        )

    def add(self, other: "CaptionFieldCounts") -> None:
        """Add the counts of other files."""
        for field, samples in other.samples.items():
            self.count(field, samples)
        self.add_names(other.names)
        self.known |= other.known

    def describe(self) -> str:
        """Say which names captions are read from, and which other texts there are; empty if none is read."""
        read = [*self.known] or [*filter(None, self.samples)]
        if not read:
            return ""
        # Also the objects of paths.
        mentioned = {
            *KEY_COLUMNS,
            *read,
            *(name.partition(".")[0] for name in read),
        }
        others = [name for name in self.names if not {name, name.removeprefix("json.")} & mentioned]
        # Not the suffixes of a tar's members.
        texts = [name for name in others if not name.startswith(".")]
        unread = f"; not read: {list_names(texts)} (others with --caption)" if texts else ""
        return f"captions are read from {list_names(read)}{unread}"

    def require(self, choice: CaptionChoice) -> None:
        """Raise ValueError for a named field that no sample has."""
        missing = [name for name in choice.names if name and not self.samples.get(name)]
        if missing:
            near = get_close_matches(missing[0], self.names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"no sample has a caption named {missing[0]!r}{hint} (there are {self._listed_names})"
            )

    def require_any(self) -> None:
        """Raise ValueError that lists the names of texts."""
        raise ValueError(
            f"none of its samples has a .txt or .json caption (there are {self._listed_names})"
        )

    @property
    def _listed_names(self) -> str:
        return list_names(sorted(self.names)) or "none"


class CaptionFieldReader:
    """Reads the texts of samples by a choice, and counts the fields that there are."""

    def __init__(self, choice: CaptionChoice, found: CaptionFieldCounts | None = None) -> None:
        self.choice = choice
        self.found = CaptionFieldCounts() if found is None else found
        self.num_read = 0
        self._has_any = False  # whether a sample has a caption, perhaps a null

    def read(self, values: Mapping[str, object]) -> tuple[Texts, str]:
        """Return the texts of a sample by field, and its flaw or "", as `CaptionChoice.read`."""
        if self.num_read >= NAMED_SAMPLES:
            text = self.choice.only_text(values)
            if text is not None:
                self.found.count(self.choice.names[0])
                self._has_any = True
                return ((text,),), ""
        texts, flaw = self.choice.read(values)
        for field, field_texts in zip(self.choice.names, texts, strict=True):
            if field_texts:
                self.found.count(field)
        if self.num_read < NAMED_SAMPLES:
            names = [*text_names(values)]
            self.found.add_names(names)
            if self.choice == FOUND_BY_NAME and texts[0]:
                self.found.known |= dict.fromkeys(map(to_valid_text, names))
        self.num_read += 1
        self._has_any = self._has_any or flaw in ("", NULL)
        return texts, flaw

    def require_any(self) -> None:
        """Raise ValueError if samples were read and none has a caption, not even a null."""
        if self.num_read and not self._has_any:
            self.found.require(self.choice)
            self.found.require_any()
