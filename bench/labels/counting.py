"""Counts of the labels of captions."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from bench.console.progress import show_progress
from bench.data.captions.batches import collect_caption_batches
from bench.data.captions.choice import parse_caption_choice
from bench.data.captions.files import read_caption_batches
from bench.data.captions.reader import CaptionFieldCounts
from bench.data.manifest import user_cache_folder
from bench.data.samples import caption_files, open_source_samples
from bench.experiment.fields import InputSettings
from bench.interfaces.data_source import SampleRequest
from bench.labels.labeller import Tally, get_rule, make_vocabulary, tally_labels
from bench.labels.vocabulary import Vocabulary


def count_label_vocabulary(inputs: InputSettings, rule_name: str) -> Vocabulary:
    """Return the vocabulary of all labels of data or of caption files; ValueError or OSError if they cannot be read."""
    files = caption_files(inputs)
    total = Tally()
    for path in files:
        total.add(count_file_labels(path, rule_name, inputs.caption))
    if files:
        total.field_counts.require_fields(parse_caption_choice(inputs.caption))
    else:
        total = count_sample_labels(inputs, rule_name)
    return make_vocabulary(get_rule(rule_name), total)


def count_sample_labels(inputs: InputSettings, rule_name: str) -> Tally:
    """Count the labels of all texts of the samples of a data source; their index lies in the user's cache."""
    choice = parse_caption_choice(inputs.caption)
    request = SampleRequest(
        cache=user_cache_folder(), captions=choice, image_column=inputs.image_column
    )
    samples = open_source_samples(inputs.data, request)
    rows = show_progress(range(len(samples)), len(samples), "reading captions", "samples")
    batches = collect_caption_batches(map(samples.texts, rows))
    return _count_batch_labels(batches, rule_name)


def count_file_labels(path: Path, rule_name: str, caption_option: str | None) -> Tally:
    """Count the labels of the captions that `--caption` chooses from a file; ValueError says why it cannot be read."""
    field_counts = CaptionFieldCounts()
    total = _count_batch_labels(read_caption_batches(path, caption_option, field_counts), rule_name)
    total.field_counts = field_counts
    return total


def _count_batch_labels(batches: Iterable[pa.BinaryArray], rule_name: str) -> Tally:
    total = Tally()
    for captions in batches:
        _, tally = tally_labels(get_rule(rule_name), captions)
        total.add(tally)
    return total
