"""The samples of an experiment's data, opened by the data source that recognises it. No torch here."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bench.data.captions.choice import CaptionChoice, parse_caption_choice
from bench.data.captions.reader import NO_CAPTION
from bench.data.columns import CAPTION_COLUMNS
from bench.data.held_out import HELD_OUT_FILE
from bench.data.manifest import pack_cache
from bench.data.parquet_files import MAX_BATCH_ROWS
from bench.data.paths import digest_file_excerpts
from bench.data.refusals import refuse, refuse_unread
from bench.data.sample_index import NO_IMAGE, IndexedSamples
from bench.data.subset import is_key_file
from bench.environment.circumstances import LOADED_EXTENSIONS
from bench.environment.files import atomic_write
from bench.experiment.config import Experiment
from bench.experiment.fields import SEEN_CONCEPTS, InputSettings
from bench.interfaces.data_source import (
    SOURCES,
    DataSource,
    SampleRequest,
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
        folders = sorted(map(str, Path(data).glob("[!.]*/")))[:CHECKED_FOLDERS]
        raise refuse_unread(data, next(filter(find_source, folders), None))
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
    request = SampleRequest(
        cache=cache,
        captions=parse_caption_choice(inputs.caption),
        image_column=inputs.image_column,
        has_embeddings=experiment.image.embedding_channels is not None,
        lists_keys=is_key_file(inputs.subset),
    )
    if not reads_captions(experiment):
        with suppress(ValueError):
            return _open_usable_samples(inputs.data, request)
        request = replace(request, needs_captions=False)
    return _open_usable_samples(inputs.data, request)


def _open_usable_samples(data: str, request: SampleRequest) -> Samples:
    """Open samples; ValueError if none or too few can be used."""
    samples = open_source(data, request)
    lacking = sum(samples.skipped.values())
    if not request.lists_keys and lacking > max_unusable(samples.total):
        raise ValueError(
            f"{data}: {lacking:,} of {samples.total:,} samples cannot be used, more than {MAX_UNUSABLE_FRACTION:.0%} "
            f"({format_counts(samples.skipped)}); repair the files, or list the keys to use: --set subset=FILE.csv"
        )
    return samples


def open_source(data: str, request: SampleRequest) -> Samples:
    """Open the samples of data.

    ValueError if none can be used, if two samples of an extension have one key, or for an option that the source does
    not read.
    """
    source = get_source(data)
    is_given = {
        "--caption": request.captions != CaptionChoice(),
        "--image": request.image_column is not None,
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
            raise refuse(reason, data, tars)
        raise ValueError(reason)
    if not isinstance(samples, IndexedSamples):
        _require_distinct_keys(data, samples)
    return samples


def _require_distinct_keys(data: str, samples: Samples) -> None:
    """Raise ValueError for two samples with one key."""
    keys = set[str]()
    for key in samples.keys:
        if key in keys:
            raise ValueError(f"{data}: two samples have the key {key!r}")
        keys.add(key)


def max_unusable(total: int) -> float:
    """Return the largest tolerated number of unusable samples."""
    return max(float(MIN_TOLERATED), MAX_UNUSABLE_FRACTION * total)


def caption_files(inputs: InputSettings) -> list[Path]:
    """Return files with the captions of data in a format that `label` reads.

    They are the files of the source, or a table that is written into the user's cache, whose columns have the names of
    the choice's fields.
    """
    data = inputs.data
    source = get_source(data)
    if source.has_caption_files:
        return source.files(data)
    choice = parse_caption_choice(inputs.caption)
    image = inputs.image_column
    cache = pack_cache()
    key = f"{data} {data_digest(data)} {choice.names} {image} {sorted(LOADED_EXTENSIONS.items())}"
    digest = sha256(key.encode()).hexdigest()[:16]
    path = cache / f"captions-{digest}.parquet"
    if not path.is_file():
        request = SampleRequest(cache=cache, captions=choice, image_column=image)
        samples = open_source(data, request)
        _write_captions(samples, choice, path)
    return [path]


def _write_captions(samples: Samples, choice: CaptionChoice, path: Path) -> None:
    """Write a Parquet file with the texts of samples, a column for each field of the choice."""
    names = [name or CAPTION_COLUMNS[0] for name in choice.names]
    schema = pa.schema([(name, pa.list_(pa.string())) for name in names])
    with atomic_write(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for first in range(0, len(samples), MAX_BATCH_ROWS):
            end = min(first + MAX_BATCH_ROWS, len(samples))
            texts = [samples.texts(row) for row in range(first, end)]
            columns = [
                pa.array(texts_of_field, pa.list_(pa.string()))
                for texts_of_field in zip(*texts, strict=True)
            ]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))


def files_digest(files: Iterable[Path]) -> str:
    """Return a digest that changes if a file is replaced, added or removed."""
    digests = "".join(digest_file_excerpts(path) for path in files)
    return sha256(digests.encode()).hexdigest()[:16]


def inputs_digest(experiment: Experiment) -> str:
    """Return a digest of an experiment's data, list of keys, vocabularies and teacher's file."""
    subset = experiment.input.subset
    names = (
        HELD_OUT_FILE if subset == SEEN_CONCEPTS else subset,
        experiment.targets.synset_vocabulary,
        experiment.targets.subword_vocabulary,
        experiment.targets.teacher,
    )
    files = [Path(name) for name in names if name is not None and Path(name).is_file()]
    digests = f"{data_digest(experiment.input.data)} {files_digest(files)}"
    return sha256(digests.encode()).hexdigest()[:16]
