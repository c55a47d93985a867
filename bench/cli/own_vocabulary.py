"""Vocabularies counted from the captions of a user's data, for methods that need labels of their own."""

import hashlib
from pathlib import Path

import msgspec

from bench.cli.label import Label, cut_vocabulary, save_vocabulary
from bench.data.samples import caption_files
from bench.labels.vocabulary import SUBWORD, Vocabulary, min_count_for
from bench.recipes import DATACOMP_SYNSETS

FOLDER = "vocabularies"  # in the results folder
RULES = {"synset_vocabulary": "corenet", "subword_vocabulary": SUBWORD}  # by field of an experiment


def count_own_vocabulary(data: str, field: str, min_count: int | None = None) -> Vocabulary:
    """Count the vocabulary of a field over the captions of data, and print its tables.

    By default all subwords are kept, and of the synsets at most as many as CatLIP's DataComp release has, those that
    `min_count_for` the captions keeps. Raises ValueError for captions without such labels, or a file that fails.
    """
    label = Label(tuple(map(str, caption_files(data))), count_only=True, rule=RULES[field])
    counted = label.count_labels()
    is_subword = counted.rule == SUBWORD
    if min_count is None:
        min_count = 1 if is_subword else min_count_for(counted.captions or 0)
    return cut_vocabulary(counted, min_count, None if is_subword else DATACOMP_SYNSETS)


def count_all_vocabularies(data: str, results: Path) -> dict[str, str]:
    """Count the vocabularies of all fields into files of the results folder; return the files by field.

    A file is named by its content, so that counting equal captions again gives the same file. Raises ValueError as
    `count_own_vocabulary`.
    """
    files = {}
    for field in RULES:
        vocabulary = count_own_vocabulary(data, field)
        digest = hashlib.sha256(msgspec.json.encode(vocabulary)).hexdigest()[:8]
        path = results / FOLDER / f"{field.partition('_')[0]}s-{digest}.json"
        save_vocabulary(vocabulary, path)
        files[field] = str(path)
    return files
