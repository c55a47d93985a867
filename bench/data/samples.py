"""The samples of an experiment's data, opened by the data source that recognises it. No torch here."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from bench.data.captions.choice import CaptionChoice, parse_caption_choice
from bench.data.captions.files import find_caption_files
from bench.data.captions.reader import NO_CAPTION
from bench.data.held_out import HELD_OUT_FILE
from bench.data.paths import digest_file_excerpts
from bench.data.refusals import missing_part_error, unread_data_error
from bench.data.sample_index import NO_IMAGE
from bench.data.subset import is_key_file
from bench.experiment.config import Experiment
from bench.experiment.fields import WITHOUT_HELD_OUT_CONCEPTS, SampleSettings, TargetSettings
from bench.interfaces.data_source import (
    SOURCES,
    DataSource,
    SampleFieldsRequest,
    Samples,
    format_counts,
)
from bench.interfaces.method import reads_captions

MAX_UNUSABLE_FRACTION = 0.1  # largest fraction of unusable samples
MIN_TOLERATED = 10  # unusable samples that are always tolerated
CHECKED_FOLDERS = 20  # in a folder that no source reads


def find_source(data: str) -> DataSource | None:
    """Return the first source that recognises data."""
    for source in SOURCES.values():
        if source.recognises(data):
            return source
    return None


def get_source(data: str) -> DataSource:
    """Return the source that reads data; UserError says what is missing, and the next command."""
    source = find_source(data)
    if source is None:
        folders = sorted(map(str, Path(data).glob("[!.]*/")))
        readable_folders = filter(find_source, folders[:CHECKED_FOLDERS])
        raise unread_data_error(data, next(readable_folders, None))
    return source


def data_digest(data: str) -> str:
    """Return a digest that changes if data do, equal on all nodes; ValueError or OSError if they cannot be read."""
    source = get_source(data)
    return source.digest(data) or files_digest(source.files(data))


def open_samples(experiment: Experiment, cache: Path) -> Samples:
    """Open an experiment's samples; ValueError if too many are unusable, unless a file lists those to use.

    A method that reads no captions sees the same images as the others, or all images where the others are refused.
    """
    inputs = experiment.input
    request = SampleFieldsRequest(
        cache=cache,
        captions=parse_caption_choice(inputs.caption_fields),
        image_column=inputs.image_column,
        has_embeddings=experiment.image.input_embedding_grid_channels is not None,
    )
    if not reads_captions(experiment):
        with suppress(ValueError):
            return _open_samples_if_most_are_usable(inputs, request)
        request = replace(request, needs_captions=False)
    return _open_samples_if_most_are_usable(inputs, request)


def _open_samples_if_most_are_usable(
    inputs: SampleSettings, request: SampleFieldsRequest
) -> Samples:
    """Open samples; ValueError if none can be used, or too few of those that no file lists."""
    samples = open_source_samples(inputs.data, request)
    lacking = sum(samples.skipped.values())
    tolerated = max(MIN_TOLERATED, MAX_UNUSABLE_FRACTION * samples.total_with_unusable)
    if lacking > tolerated and not is_key_file(inputs.subset):
        raise ValueError(
            f"{inputs.data}: {lacking:,} of {samples.total_with_unusable:,} samples cannot be used, more than "
            f"{MAX_UNUSABLE_FRACTION:.0%} ({format_counts(samples.skipped)}); repair the files, "
            "or list the keys to use: --set subset=FILE.csv"
        )
    return samples


def open_source_samples(data: str, request: SampleFieldsRequest) -> Samples:
    """Open the samples of data by the source that reads them.

    ValueError if none can be used, or for an option that the source does not read.
    """
    source = get_source(data)
    is_given = {
        "--caption-fields": request.captions != CaptionChoice(),
        "--image-column": request.image_column is not None,
    }
    for option, has_value in is_given.items():
        if has_value and option not in source.options:
            raise ValueError(
                f"{data}: the source {source.name!r} does not read {option}: leave it out"
            )
    samples = source.open(data, request)
    if not len(samples):
        reason = f"{data}: no sample can be used ({format_counts(samples.skipped)})"
        tars = [path for path in source.files(data) if path.suffix == ".tar"]
        if tars and {NO_IMAGE, NO_CAPTION} <= samples.skipped.keys():
            raise missing_part_error(reason, data, tars)
        raise ValueError(reason)
    return samples


def files_to_count_labels_in(inputs: SampleSettings) -> list[Path]:
    """Return the files from which labels can be counted without opening the source; none if it must be opened."""
    source = find_source(inputs.data)
    if source is None:
        return find_caption_files(inputs.data)
    return source.files(inputs.data) if source.can_count_labels_from_files else []


def files_digest(files: Iterable[Path]) -> str:
    """Return a digest that changes if a file is replaced, added or removed."""
    digests = "".join(digest_file_excerpts(path) for path in files)
    return sha256(digests.encode()).hexdigest()[:16]


def training_files_digest(inputs: SampleSettings, targets: TargetSettings) -> str:
    """Return a digest of the files that a training reads: data, list of keys, vocabularies and teacher."""
    key_file = (
        HELD_OUT_FILE if inputs.subset == WITHOUT_HELD_OUT_CONCEPTS else Path(inputs.subset or "")
    )
    paths = (
        key_file,
        Path(targets.synset_vocabulary),
        Path(targets.subword_vocabulary),
        Path(targets.teacher_tower),
    )
    files = filter(Path.is_file, paths)
    digests = f"{data_digest(inputs.data)} {files_digest(files)}"
    return sha256(digests.encode()).hexdigest()[:16]
