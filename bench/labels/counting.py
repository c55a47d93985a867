"""Counts of the labels of caption files."""

from collections.abc import Iterable
from pathlib import Path

from bench.data.captions.choice import parse_caption_choice
from bench.data.captions.files import read_captions
from bench.labels.labeller import Tally, get_rule, tally_labels, vocabulary_of_tally
from bench.labels.vocabulary import Vocabulary


def count_file(path: Path, rule: str, caption: str | None) -> Tally:
    """Count the labels of a file's captions by a choice of captions; ValueError says why it cannot be read."""
    total = Tally()
    label_rule = get_rule(rule)
    for batch in read_captions(path, caption, total.field_counts):
        _, tally = tally_labels(label_rule, batch.captions)
        tally.repaired += batch.num_replaced
        total.add(tally)
    return total


def count_files(files: Iterable[Path], rule: str, caption: str | None = None) -> Vocabulary:
    """Count the labels of files, one after the other; ValueError or OSError for one that cannot be read."""
    total = Tally()
    for path in files:
        total.add(count_file(path, rule, caption))
    total.field_counts.require(parse_caption_choice(caption))
    return vocabulary_of_tally(get_rule(rule), total)
