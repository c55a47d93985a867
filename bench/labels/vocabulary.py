"""Vocabularies: ordered lists of labels with their counts, as JSON. Counts of disjoint inputs can be merged."""

import io
import pickle
import re
import shlex
from collections.abc import Iterable, Sequence
from functools import cache, cached_property
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from bench.console.console import PROGRAM
from bench.environment.files import atomic_write, decode_json, prefix_errors, read_limited
from bench.experiment.config import Experiment, choose, format_differences, get_field
from bench.experiment.fields import PACK_DATA, TargetSettings
from bench.experiment.recipes import DATACOMP_SYNSETS, DATACOMP_VOCABULARY
from bench.interfaces.method import get_method, reads_captions

SHIPPED_FOLDER = Path(__file__).resolve().parent / "vocabularies"
PACK_SYNSETS = "pack-synsets"  # shipped, counted over the pack's captions
PACK_SUBWORDS = "pack-subwords"  # likewise
MIN_COUNT = 500  # smallest count of a synset, which is kept; arXiv 2404.15653 keeps synsets that occur more often
# Smallest count over the number of captions, where there are too few for `MIN_COUNT`.
MIN_COUNT_SHARE = 1 / 1000
PART = "[1-9][0-9]{0,9}/[1-9][0-9]{0,9}"
MAX_LISTED_PARTS = 10  # in a message
SUBWORD = (
    "subword"  # the only rule whose labels are subword ids; the labels of all others are synsets
)


class VocabularyLabel(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A label, identified by its synset (`n2084071`: part of speech and offset) or by its subword's id."""

    synset: str = ""
    subword: str = ""
    name: str  # readable: dog.n.01
    count: Annotated[int, Meta(ge=0)]  # occurrences, with repeats in a caption
    captions: Annotated[int, Meta(ge=0)] | None = (
        None  # captions with the label; None: as many as occurrences
    )
    gloss: str = ""

    @property
    def key(self) -> str:
        """Return the synset, or the subword's id."""
        return self.synset or self.subword

    @property
    def num_captions(self) -> int:
        """Return the number of captions with the label."""
        return self.count if self.captions is None else self.captions


class Vocabulary(
    msgspec.Struct,
    frozen=True,
    dict=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
):
    """Labels by descending count; a label's index is its column in the classification head."""

    rule: str
    captions: int | None  # number of captions counted; None: unknown
    min_count: Annotated[int, Meta(ge=1)] = 1  # labels with smaller counts were left out
    size: Annotated[int, Meta(ge=1)] | None = None  # labels after this many were left out
    part: Annotated[str, Meta(pattern=rf"^({PART})?\Z")] = (
        ""  # "k/n": of the files that were counted
    )
    labels: tuple[VocabularyLabel, ...]

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Keys of the labels, in column order."""
        return tuple(label.key for label in self.labels)

    @cached_property
    def digest(self) -> str:
        """Hash of the rule and the keys: vocabularies that give labels equal columns have equal digests."""
        return sha256("\n".join((self.rule, *self.keys)).encode()).hexdigest()[:16]

    def filtered(self, min_count: int, size: int | None) -> "Vocabulary":
        """Keep the labels with at least `min_count` occurrences, and the first `size` of these."""
        labels = tuple(label for label in self.labels if label.count >= min_count)[:size]
        return replace(
            self, labels=labels, min_count=max(min_count, self.min_count), size=size or self.size
        )


def sort_labels_by_count(labels: Iterable[VocabularyLabel]) -> tuple[VocabularyLabel, ...]:
    """Sort by descending count; break ties by the synset's offset or the subword's id."""
    return tuple(sorted(labels, key=lambda label: (-label.count, int(label.key.lstrip("n")))))


def min_count_for(captions: int) -> int:
    """Return the smallest count of a synset in a vocabulary of so many captions: CatLIP's from 500,000 captions on."""
    return min(MIN_COUNT, max(1, int(captions * MIN_COUNT_SHARE)))


def merge_vocabularies(vocabularies: Sequence[Vocabulary]) -> Vocabulary:
    """Add the counts of disjoint inputs; the sum equals the count of all. A single vocabulary keeps its order.

    Raises ValueError for parts that are missing, given twice or of another division.
    """
    _require_all_parts([vocabulary.part for vocabulary in vocabularies])
    first = vocabularies[0]
    if len(vocabularies) == 1 and not first.part:
        return first
    rules = tuple(dict.fromkeys(vocabulary.rule for vocabulary in vocabularies))
    if len(rules) > 1:
        raise ValueError(
            f"vocabularies of several rules cannot be merged: {format_differences({'rule': rules})}"
        )
    total: dict[str, VocabularyLabel] = {}
    captions: int | None = 0
    for vocabulary in vocabularies:
        if vocabulary.min_count > 1 or vocabulary.size is not None:
            raise ValueError(
                "a vocabulary that was cut by --min-count or --size has lost counts and cannot be merged: "
                "count the parts without these options, and cut when merging"
            )
        for label in vocabulary.labels:
            known = total.get(label.key)
            total[label.key] = _add_counts(label, known) if known else label
        captions = (
            None
            if captions is None or vocabulary.captions is None
            else captions + vocabulary.captions
        )
    return Vocabulary(
        rule=first.rule, captions=captions, labels=sort_labels_by_count(total.values())
    )


def _add_counts(label: VocabularyLabel, other: VocabularyLabel) -> VocabularyLabel:
    count = label.count + other.count
    captions = label.num_captions + other.num_captions
    return replace(label, count=count, captions=captions if captions < count else None)


def _require_all_parts(parts: Sequence[str]) -> None:
    """Raise ValueError unless the parts are k/n for each k from 1 to n, or no parts."""
    if not any(parts):
        return
    divisions = {part.partition("/")[2] for part in parts}
    if len(divisions) > 1:
        raise ValueError(
            f"these are parts of different divisions: {', '.join(part or 'all files' for part in parts)}"
        )
    total = int(divisions.pop())
    given = {int(part.partition("/")[0]) for part in parts}
    if len(parts) == total and given == set(range(1, total + 1)):
        return
    missing = islice(
        (f"{number}/{total}" for number in range(1, total + 1) if number not in given),
        MAX_LISTED_PARTS,
    )
    text = f"missing: {', '.join(missing) or 'none'}"
    raise ValueError(f"all {total} parts must be given once, got {len(parts)}; {text}")


def vocabulary_field(experiment: Experiment) -> str | None:
    """Return the field that names the vocabulary of the method's captions; None if it reads no captions."""
    return get_method(experiment.method).vocabulary_field if reads_captions(experiment) else None


def count_synset_rows(targets: TargetSettings) -> int:
    """Return the number of rows of a classifier of synsets."""
    if targets.synset_vocabulary == DATACOMP_VOCABULARY:
        return resolve_head_rows(targets, DATACOMP_SYNSETS)
    return resolve_head_rows(targets, len(read_vocabulary(targets.synset_vocabulary).labels))


def resolve_head_rows(targets: TargetSettings, num_labels: int) -> int:
    """Return the number of rows of the head: one per label of the vocabulary, or the larger `head_rows`."""
    if targets.head_rows is None:
        return num_labels
    if targets.head_rows < num_labels:
        raise ValueError(
            f"head_rows is {targets.head_rows}, its vocabulary has {num_labels} labels"
        )
    return targets.head_rows


def replace_unshipped_vocabulary(name: str) -> str:
    """Return the vocabulary whose labels are computed: the pack's in place of DataComp's, which is not shipped.

    The cost of a step does not depend on which rows its labels have, so that speed can be measured with them.
    """
    return PACK_SYNSETS if name == DATACOMP_VOCABULARY else name


def vocabulary_mismatch(experiment: Experiment) -> str:
    """Return why the vocabulary was not counted over the experiment's captions, and a remedy; empty if it was.

    The shipped vocabularies were counted over the pack's captions, and lack most labels of other captions.
    """
    field = vocabulary_field(experiment)
    if field is None:
        return ""
    data = experiment.input.data
    vocabulary = get_field(experiment, field)
    is_of_pack = (
        vocabulary in (PACK_SYNSETS, PACK_SUBWORDS)
        or Path(vocabulary).parent.resolve() == SHIPPED_FOLDER
    )
    if vocabulary != DATACOMP_VOCABULARY and (data == PACK_DATA or not is_of_pack):
        return ""
    if data == PACK_DATA:
        remedy = f"add --vocabulary {PACK_SYNSETS}, the pack's"
    elif field == "subword_vocabulary":
        remedy = "add --set subword_vocabulary=all (the tokenizer's own), or --count-vocabulary"
    else:
        command = f"{PROGRAM} label {shlex.quote(data)} --count-only --min-count {MIN_COUNT} --size {DATACOMP_SYNSETS}"
        remedy = f"add --count-vocabulary, or count one with: {command} --out vocabulary.json"
        remedy += " (then add --vocabulary vocabulary.json; CoreNet's .pkl file is accepted, too)"
    reason = "is that of the pack's captions" if is_of_pack else "is not shipped"
    return f"{experiment.name}: the vocabulary {vocabulary} {reason}: {remedy}"


def vocabulary_path(name: str) -> Path:
    """Return the path of a shipped vocabulary by its name, or a given path; ValueError lists the shipped ones."""
    shipped = {file.stem: file for file in SHIPPED_FOLDER.glob("*.json")}
    path = Path(name)
    if name in shipped or not (path.suffix or path.is_file()):
        return choose(name, shipped, "vocabulary (or path to a .json file)")
    if not path.is_file():
        raise ValueError(f"no vocabulary file {name!r}")
    return path


@cache
def read_vocabulary(name: str) -> Vocabulary:
    """Read a shipped vocabulary by its name, or a file by its path.

    A file is JSON as `python -m bench label --count-only` writes it, or CoreNet's released pickle. Raises ValueError
    for the count of a part of the files.
    """
    vocabulary = read_vocabulary_or_part(name)
    if vocabulary.part:
        remedy = f"add all parts up with {PROGRAM} label --merge PART … --out FILE"
        raise ValueError(f"{name} counts part {vocabulary.part} of the files: {remedy}")
    return vocabulary


def read_vocabulary_or_part(name: str) -> Vocabulary:
    """Read a vocabulary, or the count of a part of the files; see `read_vocabulary`."""
    path = vocabulary_path(name)
    content = read_limited(path)
    if content.lstrip().startswith(b"{"):
        with prefix_errors(f"{path}: not a vocabulary"):
            vocabulary = decode_json(content, Vocabulary)
        return _require_valid_labels(vocabulary, path)
    if content.startswith(b"\x80") or path.suffix in (".pkl", ".pickle"):
        counts = _read_released_counts(content, path)
        labels = tuple(
            VocabularyLabel(synset=key, name=key, count=count) for key, count in counts.items()
        )
        return _require_valid_labels(Vocabulary(rule="corenet", captions=None, labels=labels), path)
    raise ValueError(
        f"{path}: unknown vocabulary format; accepted are JSON of `{PROGRAM} label --count-only` and CoreNet's pickle"
    )


def write_vocabulary(vocabulary: Vocabulary, path: Path) -> None:
    """Write JSON atomically, one label per line."""
    head: dict[str, Any] = msgspec.to_builtins(replace(vocabulary, labels=()))
    del head["labels"]
    rows = ",\n".join(msgspec.json.encode(label).decode() for label in vocabulary.labels)
    with atomic_write(path) as temporary:
        content = f'{msgspec.json.encode(head).decode()[:-1]},"labels":[\n{rows}\n]}}\n'
        temporary.write_text(content, encoding="utf-8")


def _require_valid_labels(vocabulary: Vocabulary, path: Path) -> Vocabulary:
    """Return the vocabulary; ValueError names a malformed or repeated key, or a label in more captions than counted."""
    kind = "subword" if vocabulary.rule == SUBWORD else "synset"
    pattern = re.compile("[0-9]+" if kind == "subword" else "n[0-9]+")
    index_of = dict[str, int]()
    for index, label in enumerate(vocabulary.labels):
        key = label.subword if kind == "subword" else label.synset
        if not pattern.fullmatch(key):
            raise ValueError(
                f"{path}: label {index} has the {kind} {key!r}, expected {pattern.pattern}"
            )
        if key in index_of:
            raise ValueError(
                f"{path}: the {kind} {key!r} occurs twice, in label {index_of[key]} and label {index}"
            )
        if vocabulary.captions is not None and label.num_captions > vocabulary.captions:
            raise ValueError(
                f"{path}: label {index} has more than all {vocabulary.captions} captions: count again"
            )
        index_of[key] = index
    return vocabulary


class _PlainUnpickler(pickle._Unpickler):  # noqa: SLF001
    """Reads dict, str and int alone: a pickle can only call what `find_class` returns, and this one returns nothing.

    It derives from the unpickler in Python; the one in C allocates as much memory as ten bytes of a pickle claim.
    """

    def find_class(self, module_name: str, global_name: str, /) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for object {pid!r}")


def _read_released_counts(content: bytes, path: Path) -> dict[str, int]:
    """Return the counts by synset of CoreNet's pickle, in its order; ValueError unless it is a dict of str to int."""
    with prefix_errors(
        f"{path}: only a pickle of dict, str and int is read", (Exception,)
    ):  # those are not documented
        counts = _PlainUnpickler(io.BytesIO(content)).load()
    if type(counts) is not dict or not all(
        type(key) is str and type(count) is int for key, count in counts.items()
    ):
        raise ValueError(
            f"{path}: only a pickle of dict, str and int is read, this one holds other types"
        )
    if any(count < 0 for count in counts.values()):
        raise ValueError(f"{path}: a count is negative")
    return counts
