"""Vocabularies that are counted from the captions of training data, for methods that learn labels."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.console.console import log
from bench.experiment.config import Experiment, change
from bench.experiment.fields import SampleSettings
from bench.experiment.recipes import DATACOMP_SYNSETS
from bench.labels.counting import count_label_vocabulary
from bench.labels.vocabulary import (
    SUBWORD,
    Vocabulary,
    default_min_synset_count,
    find_vocabulary_field_name,
    write_vocabulary,
)

FOLDER = "vocabularies"  # in the results folder
RULES = {"synset_vocabulary": "corenet", "subword_vocabulary": SUBWORD}  # by field of an experiment


def vocabulary_fields_of(experiments: Sequence[Experiment]) -> list[str]:
    """Return the fields that name the vocabularies of experiments; ValueError if no method of them reads captions."""
    fields = {*filter(None, map(find_vocabulary_field_name, experiments))}
    if not fields:
        raise ValueError(
            "--vocabulary-from-captions needs a method that reads captions: leave it out"
        )
    return sorted(fields)


def count_data_vocabulary(source: SampleSettings, vocabulary_field_name: str) -> Vocabulary:
    """Count labels in the captions of training data, in all texts where one of several is drawn.

    All subwords are kept, and of the synsets at most as many as CatLIP's DataComp release has, those that
    `default_min_synset_count` the captions keeps. Raises ValueError for captions without such labels, or a file that
    fails.
    """
    counted = count_label_vocabulary(source, RULES[vocabulary_field_name])
    if counted.rule == SUBWORD:
        return cut_vocabulary(counted, 1, None)
    return cut_vocabulary(
        counted, default_min_synset_count(counted.captions or 0), DATACOMP_SYNSETS
    )


def with_vocabularies_counted_into_files(
    experiments: Sequence[Experiment], results: Path
) -> list[Experiment]:
    """Count the vocabularies that experiments on the same data need, into files of the results folder, and name these.

    A file is named by its content, so that counting equal captions again gives the same file. Raises ValueError as
    `count_data_vocabulary` and `vocabulary_fields_of`.
    """
    files = dict[str, str]()
    source = experiments[0].input
    for field in vocabulary_fields_of(experiments):
        vocabulary = count_data_vocabulary(source, field)
        digest = hashlib.sha256(msgspec.json.encode(vocabulary)).hexdigest()[:8]
        path = results / FOLDER / f"{field.partition('_')[0]}s-{digest}.json"
        write_and_log_vocabulary(vocabulary, path)
        files[field] = str(path)
    return [change(experiment, **files) for experiment in experiments]


def write_and_log_vocabulary(vocabulary: Vocabulary, path: Path) -> None:
    """Write a vocabulary, and log its path and its number of labels."""
    write_vocabulary(vocabulary, path)
    log(f"{path}: {len(vocabulary.labels):,} labels")


def cut_vocabulary(vocabulary: Vocabulary, min_count: int, max_labels: int | None) -> Vocabulary:
    """Return the `max_labels` most frequent labels that occur `min_count` times or more; ValueError for none."""
    cut = vocabulary.keep_frequent(min_count, max_labels)
    if not cut.labels:
        most = max((label.count for label in vocabulary.labels), default=0)
        raise ValueError(
            f"no label of the rule {vocabulary.rule} occurs {min_count} times in the captions, at most {most:,} times"
        )
    return cut
