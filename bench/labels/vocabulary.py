"""Vocabularies: ordered lists of labels with their counts, as JSON."""

import io
import pickle
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from bench.environment.files import (
    atomic_write,
    decode_json,
    prefix_errors,
    read_bytes_unless_larger,
)
from bench.experiment.config import Experiment, get_field, look_up
from bench.experiment.fields import PACK_DATA, TargetSettings
from bench.experiment.recipes import DATACOMP_SYNSETS, DATACOMP_VOCABULARY
from bench.interfaces.method import get_method, reads_captions

SHIPPED_FOLDER = Path(__file__).resolve().parent / "vocabularies"
SHIPPED_SYNSETS = "shipped-synsets"  # counted over the pack's captions
SHIPPED_SUBWORDS = "shipped-subwords"  # counted over the pack's captions
MIN_COUNT = 500  # smallest count of a synset, which is kept; arXiv 2404.15653 keeps synsets that occur more often
# Smallest count over the number of captions, where there are too few for `MIN_COUNT`.
MIN_COUNT_SHARE = 1 / 1000
SUBWORD = "subword"  # the only rule whose labels are subwords; the labels of all others are synsets
Count = Annotated[int, Meta(ge=0)]


class VocabularyLabel(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A label: a synset or a subword."""

    # Part of speech and offset of the synset (`n2084071`), or the subword's id in the tokenizer.
    key: Annotated[str, Meta(pattern=r"^n?[0-9]+\Z")]
    name: str  # readable: dog.n.01
    count: Count  # occurrences, with repeats in a caption
    captions: Count  # captions with the label
    gloss: str = ""


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
    labels: tuple[VocabularyLabel, ...]

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Keys of the labels, in column order."""
        return tuple(label.key for label in self.labels)

    def keep_frequent(self, min_count: int, size: int | None) -> "Vocabulary":
        """Keep the labels with at least `min_count` occurrences, and the first `size` of these."""
        frequent = [label for label in self.labels if label.count >= min_count]
        return replace(self, labels=tuple(frequent[:size]))


def default_min_synset_count(num_captions: int) -> int:
    """Return how often a synset must occur to be kept by default: CatLIP's 500, or less for under 500,000 captions."""
    return min(MIN_COUNT, max(1, int(num_captions * MIN_COUNT_SHARE)))


def find_vocabulary_field_name(experiment: Experiment) -> str | None:
    """Return the name of the field that holds an experiment's vocabulary; None if its method has none."""
    if not reads_captions(experiment):
        return None
    return get_method(experiment.method).vocabulary_field


def count_synset_head_rows(targets: TargetSettings) -> int:
    """Return the number of rows of CatLIP's head: one per synset of its vocabulary, or `padded_head_rows`."""
    if targets.synset_vocabulary == DATACOMP_VOCABULARY:
        return resolve_head_rows(targets, DATACOMP_SYNSETS)
    return resolve_head_rows(targets, len(read_vocabulary(targets.synset_vocabulary).labels))


def resolve_head_rows(targets: TargetSettings, num_labels: int) -> int:
    """Return the number of rows of the head: one per label of the vocabulary, or the larger `padded_head_rows`."""
    if targets.padded_head_rows is None:
        return num_labels
    if targets.padded_head_rows < num_labels:
        raise ValueError(
            f"padded_head_rows is {targets.padded_head_rows}, its vocabulary has {num_labels} labels"
        )
    return targets.padded_head_rows


def replace_unshipped_vocabulary(name: str) -> str:
    """Return the name of the pack's vocabulary in place of DataComp's, which is not shipped; else the given name.

    The cost of a step does not depend on which rows its labels have, so that speed can be measured with them.
    """
    return SHIPPED_SYNSETS if name == DATACOMP_VOCABULARY else name


def explain_vocabulary_mismatch(experiment: Experiment) -> str:
    """Return that the vocabulary was not counted over the experiment's captions, and a remedy; empty if it was.

    The shipped vocabularies were counted over the pack's captions, and lack most labels of other captions.
    """
    field = find_vocabulary_field_name(experiment)
    if field is None:
        return ""
    data = experiment.input.data
    vocabulary = get_field(experiment, field)
    is_of_pack = Path(vocabulary).stem in (SHIPPED_SYNSETS, SHIPPED_SUBWORDS)  # a name or a path
    if vocabulary != DATACOMP_VOCABULARY and (data == PACK_DATA or not is_of_pack):
        return ""
    reason = f"was not counted over the captions of {data}"
    if vocabulary == DATACOMP_VOCABULARY:
        reason = "is not shipped"
    return (
        f"{experiment.name}: the vocabulary {vocabulary} {reason}: "
        "add --vocabulary-from-captions, or name one of these captions with --label-vocabulary (docs/labels.md)"
    )


def find_vocabulary_path(name_or_path: str) -> Path:
    """Return the path of a shipped vocabulary by its name, or a given path; ValueError if there is no such file."""
    shipped = {file.stem: file for file in SHIPPED_FOLDER.glob("*.json")}
    path = Path(name_or_path)
    if name_or_path in shipped or not (path.suffix or path.is_file()):
        return look_up(name_or_path, shipped, "vocabulary (or path to a .json file)")
    if not path.is_file():
        raise ValueError(f"no vocabulary file {name_or_path!r}")
    return path


@cache
def read_vocabulary(name_or_path: str) -> Vocabulary:
    """Read a shipped vocabulary by its name, or a file by its path; ValueError for a file of another format.

    A file is JSON as `python -m bench label` writes it, or CoreNet's released pickle, whose first 24,320
    labels are the rows of the released heads.
    """
    path = find_vocabulary_path(name_or_path)
    content = read_bytes_unless_larger(path)
    if content.startswith(b"\x80") or path.suffix == ".pkl":
        vocabulary = _read_corenet_vocabulary_pickle(content, path)
    else:
        with prefix_errors(f"{path}: not a vocabulary"):
            vocabulary = decode_json(content, Vocabulary)
    if len(set(vocabulary.keys)) < len(vocabulary.keys):
        raise ValueError(f"{path}: a label occurs twice")
    return vocabulary


def write_vocabulary(vocabulary: Vocabulary, path: Path) -> None:
    """Write JSON atomically, one label per line."""
    head = msgspec.json.encode(replace(vocabulary, labels=())).removesuffix(b"]}")
    rows = b",\n".join(msgspec.json.encode(label) for label in vocabulary.labels)
    with atomic_write(path) as temporary:
        temporary.write_bytes(head + b"\n" + rows + b"\n]}\n")


class _PlainUnpickler(pickle._Unpickler):  # noqa: SLF001
    """Reads dict, str and int alone: a pickle can only call what `find_class` returns, and this one returns nothing.

    It derives from the unpickler in Python; the one in C allocates as much memory as ten bytes of a pickle claim.
    """

    def find_class(self, module_name: str, global_name: str, /) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}")


def _read_corenet_vocabulary_pickle(content: bytes, path: Path) -> Vocabulary:
    """Read the first DATACOMP_SYNSETS labels of CoreNet's pickle; ValueError unless it has synsets and counts."""
    # The exceptions of the unpickler are not documented.
    with prefix_errors(f"{path}: only a pickle of dict, str and int is read", (Exception,)):
        unpickled = _PlainUnpickler(io.BytesIO(content)).load()
        counts = msgspec.convert(unpickled, dict[str, Count])
        labels = []
        for key in list(counts)[:DATACOMP_SYNSETS]:
            count = counts[key]
            labels.append({"key": key, "name": key, "count": count, "captions": count})
        return msgspec.convert({"rule": "corenet", "captions": None, "labels": labels}, Vocabulary)
