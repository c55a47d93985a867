"""Vocabularies: ordered lists of labels with their counts, as JSON. Counts of parts add up to that of the whole."""

from collections.abc import Iterable, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from bench.config import choose, told
from bench.environment.files import written_whole
from bench.environment.json_file import content_of, from_json
from bench.labels.released_vocabulary import read_released

SHIPPED = Path(__file__).parent / "vocabularies"
SUBWORD = "subword"  # the rule whose labels are numbers of subwords; those of all others are synsets


class Label(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One label, by its synset (`n2084071`: part of speech and offset) or by its subword's number."""

    synset: str = ""
    subword: str = ""
    name: str  # what a person reads: dog.n.01
    count: Annotated[int, Meta(ge=0)]
    gloss: str = ""

    @property
    def key(self) -> str:
        """What identifies it."""
        return self.synset or self.subword


class Vocabulary(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Labels by falling count; a label's place is its column in the classification head."""

    rule: str
    captions: int | None  # counted; None: not known
    min_count: Annotated[int, Meta(ge=1)] = 1  # labels below it were left out
    size: Annotated[int, Meta(ge=1)] | None = None  # labels beyond it were left out
    labels: tuple[Label, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Every label's key, in the columns' order."""
        return tuple(label.key for label in self.labels)

    @property
    def digest(self) -> str:
        """What two vocabularies that number labels alike have in common."""
        return sha256("\n".join((self.rule, *self.keys)).encode()).hexdigest()[:16]

    def columns(self) -> dict[str, int]:
        """Return each label's column."""
        return {key: column for column, key in enumerate(self.keys)}

    def cut(self, min_count: int, size: int | None) -> "Vocabulary":
        """Keep the labels that occur at least so often, and of these so many."""
        labels = tuple(label for label in self.labels if label.count >= min_count)[:size]
        return replace(self, labels=labels, min_count=max(min_count, self.min_count), size=size or self.size)


def sorted_labels(labels: Iterable[Label]) -> tuple[Label, ...]:
    """Sort by falling count; ties by the offset of the synset, or the subword's number."""
    return tuple(sorted(labels, key=lambda label: (-label.count, int(label.key.lstrip("n")))))


def merged(vocabularies: Sequence[Vocabulary]) -> Vocabulary:
    """Add counts of parts; the sum equals a count of the whole. One part alone keeps its order."""
    if len(vocabularies) == 1:
        return vocabularies[0]
    if len(rules := tuple(dict.fromkeys(each.rule for each in vocabularies))) > 1:
        raise ValueError(f"vocabularies of several rules cannot be merged: {told({'rule': rules})}")
    if any(each.min_count > 1 or each.size is not None for each in vocabularies):
        raise ValueError(
            "a vocabulary that was cut by --min-count or --size has lost counts and cannot be merged: "
            "count the parts without, and cut when merging"
        )
    total: dict[str, Label] = {}
    for label in (label for each in vocabularies for label in each.labels):
        known = total.get(label.key)
        total[label.key] = replace(label, count=label.count + known.count) if known else label
    captions = [each.captions for each in vocabularies]
    known_captions = [count for count in captions if count is not None]
    return Vocabulary(
        rule=vocabularies[0].rule,
        captions=sum(known_captions) if len(known_captions) == len(captions) else None,
        labels=sorted_labels(total.values()),
    )


def vocabulary_path(name: str) -> Path:
    """Return the file of a shipped vocabulary by its name, or of a path; ValueError tells what there is."""
    shipped = {file.stem: file for file in SHIPPED.glob("*.json")}
    path = Path(name)
    if name in shipped or not (path.suffix or path.is_file()):
        return choose(name, shipped, "vocabulary (or path to a .json file)")
    if not path.is_file():
        raise ValueError(f"no vocabulary file {name!r}")
    return path


@cache
def read_vocabulary(name: str) -> Vocabulary:
    """Read a shipped vocabulary by its name, or a file by its path.

    A file is JSON as `python -m bench label --count-only` writes it, or CoreNet's released pickle.
    """
    path = vocabulary_path(name)
    content = content_of(path)
    if content.lstrip().startswith(b"{"):
        return _checked(_decoded(content, path), path)
    if content.startswith(b"\x80") or path.suffix in (".pkl", ".pickle"):
        labels = (Label(synset=key, name=key, count=count) for key, count in read_released(content, path).items())
        return _checked(Vocabulary(rule="corenet", captions=None, labels=tuple(labels)), path)
    raise ValueError(
        f"{path}: unknown vocabulary format; JSON of `bench label --count-only` or CoreNet's pickle is read"
    )


def write_vocabulary(vocabulary: Vocabulary, path: Path) -> None:
    """Write JSON, a label a line, whole or not at all."""
    head: dict[str, Any] = msgspec.to_builtins(replace(vocabulary, labels=()))
    del head["labels"]
    rows = ",\n".join(msgspec.json.encode(label).decode() for label in vocabulary.labels)
    with written_whole(path) as temporary:
        content = f'{msgspec.json.encode(head).decode()[:-1]},"labels":[\n{rows}\n]}}\n'
        temporary.write_text(content, encoding="utf-8")


def _decoded(content: bytes, path: Path) -> Vocabulary:
    try:
        return from_json(content, Vocabulary)
    except ValueError as error:
        raise ValueError(f"{path}: no vocabulary: {error}") from None


def _checked(vocabulary: Vocabulary, path: Path) -> Vocabulary:
    """Refuse keys that are none: a vocabulary is used far from where it was read."""
    prefix, kind = ("", "subword") if vocabulary.rule == SUBWORD else ("n", "synset")
    for place, label in enumerate(vocabulary.labels):
        key = getattr(label, kind)
        if not (key.startswith(prefix) and key.removeprefix(prefix).isdecimal()):
            raise ValueError(f"{path}: label {place} has the {kind} {key!r}, expected {prefix}NUMBER")
    if len(set(vocabulary.keys)) != len(vocabulary.keys):
        raise ValueError(f"{path}: a label is there twice")
    return vocabulary
