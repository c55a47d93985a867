"""Counts of the labels of captions."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from bench.console.progress import iterate_with_progress_bar
from bench.data.captions.batches import collect_caption_batches
from bench.data.captions.choice import parse_caption_choice
from bench.data.captions.files import read_caption_batches
from bench.data.captions.reader import CaptionFieldCounts
from bench.data.manifest import user_cache_folder
from bench.data.samples import caption_files, open_source_samples
from bench.experiment.fields import SampleSettings
from bench.interfaces.data_source import SampleFieldsRequest
from bench.labels.labeller import LabelTally, get_label_rule, label_and_tally, make_vocabulary
from bench.labels.vocabulary import Vocabulary


def count_label_vocabulary(inputs: SampleSettings, rule_name: str) -> Vocabulary:
    """Count the labels of data or of caption files, and return them as a vocabulary; ValueError or OSError."""
    files = caption_files(inputs)
    total = LabelTally()
    for path in files:
        total.add(count_file_labels(path, rule_name, inputs.caption))
    if files:
        total.field_counts.require_fields(parse_caption_choice(inputs.caption))
    else:
        total = count_sample_labels(inputs, rule_name)
    return make_vocabulary(get_label_rule(rule_name), total)


def count_sample_labels(inputs: SampleSettings, rule_name: str) -> LabelTally:
    """Count the labels of all texts of the samples of a data source.

    Their index lies in the user's cache.
    """
    choice = parse_caption_choice(inputs.caption)
    request = SampleFieldsRequest(
        cache=user_cache_folder(), captions=choice, image_column=inputs.image_column
    )
    samples = open_source_samples(inputs.data, request)
    rows = iterate_with_progress_bar(
        range(len(samples)), len(samples), "reading captions", "samples"
    )
    batches = collect_caption_batches(map(samples.captions_by_field, rows))
    return _count_labels_of_batches(batches, rule_name)


def count_file_labels(path: Path, rule_name: str, caption_option: str | None) -> LabelTally:
    """Count the labels of the captions that `--caption` chooses from a file; ValueError if it cannot be read."""
    field_counts = CaptionFieldCounts()
    total = _count_labels_of_batches(
        read_caption_batches(path, caption_option, field_counts), rule_name
    )
    total.field_counts = field_counts
    return total


def _count_labels_of_batches(batches: Iterable[pa.BinaryArray], rule_name: str) -> LabelTally:
    total = LabelTally()
    for captions in batches:
        _, tally = label_and_tally(get_label_rule(rule_name), captions)
        total.add(tally)
    return total
