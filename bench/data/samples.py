"""The samples of an experiment's data, opened by the data source that recognises it. No torch here."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bench.console.console import describe_error
from bench.data.captions.batches import CAPTION_COLUMNS, MAX_BATCH_ROWS
from bench.data.captions.choice import CaptionChoice, parse_caption_choice
from bench.data.held_out import HELD_OUT_FILE
from bench.data.manifest import pack_cache
from bench.data.paths import digest_file_excerpts, expand_path_or_glob
from bench.data.sources.image_tables import explain_refused_table
from bench.data.subset import is_key_file
from bench.environment.circumstances import LOADED_EXTENSIONS
from bench.environment.files import atomic_write
from bench.experiment.config import Experiment, list_names
from bench.experiment.fields import SEEN_CONCEPTS
from bench.interfaces.data_source import SOURCES, DataSource, SampleRequest, Samples
from bench.interfaces.method import reads_captions
from bench.tables.formats import pluralize

# Largest fraction of unusable samples; this many are always tolerated.
MAX_UNUSABLE_FRACTION, MIN_TOLERATED = (
    0.1,
    10,
)
KEYS_REMEDY = "list the keys to use: --set subset=FILE.csv"
LAYOUTS_PAGE = "docs/data.md says what converts others"


def find_sources(data: str) -> list[DataSource]:
    """Return the sources that recognise data; the first reads them.

    ValueError for several, one of an extension among them.
    """
    sources = list[DataSource]()
    for source in SOURCES.values():
        with name_source_in_errors(source, data):
            if source.recognises(data):
                sources.append(source)
    if len(sources) > 1 and not all(SOURCES.is_built_in(source.name) for source in sources):
        names = " and ".join(source.name for source in sources)
        raise ValueError(
            f"data={data}: {names} read it both: keep the files of one of them in another folder"
        )
    return sources


def get_source(data: str) -> DataSource:
    """Return the source that reads data; ValueError says what is there, and what is accepted."""
    return _get_sources(data)[0]


def _get_sources(data: str) -> list[DataSource]:
    """Return the sources that recognise data, at least one."""
    sources = find_sources(data)
    if not sources:
        accepted = "; or ".join(source.accepted for source in SOURCES.values())
        raise ValueError(
            f"data={data}: {_describe_files(data)}; accepted is {accepted} ({LAYOUTS_PAGE})"
        )
    return sources


def _describe_files(data: str) -> str:
    """Say which files are there that no source reads, and why the first table among them is not read."""
    try:
        files = expand_path_or_glob(data)
    except ValueError as error:
        return str(error)
    if not files:
        return "there is no file"
    suffixes = list_names(sorted({path.suffix.lower() or "without a suffix" for path in files}))
    return f"no data source reads {pluralize(len(files), 'file')} ({suffixes}){explain_refused_table(data)}"


def data_files(data: str) -> list[Path]:
    """Return the files whose change makes other data; ValueError or OSError if they cannot be read."""
    source = get_source(data)
    with name_source_in_errors(source, data):
        return source.files(data)


def data_digest(data: str) -> str:
    """Return a digest that changes if data do, equal on all nodes; ValueError or OSError if they cannot be read."""
    source = get_source(data)
    with name_source_in_errors(source, data):
        return source.digest(data) or files_digest(source.files(data))


def open_samples(experiment: Experiment, cache: Path) -> Samples:
    """Open an experiment's samples; ValueError if too many are unusable, unless a file lists those to use.

    A method that reads no captions sees the same images as the others, or all images where the others are refused.
    """
    request = SampleRequest(
        cache=cache,
        captions=parse_caption_choice(experiment.input.caption),
        has_embeddings=experiment.image.embedding_channels is not None,
        lists_keys=is_key_file(experiment.input.subset),
    )
    if not reads_captions(experiment):
        with suppress(ValueError):
            return _open_usable_samples(experiment.input.data, request)
        request = replace(request, needs_captions=False)
    return _open_usable_samples(experiment.input.data, request)


def _open_usable_samples(data: str, request: SampleRequest) -> Samples:
    """Open samples; ValueError if none or too few can be used."""
    samples = _open(data, request)
    if not len(samples):
        reasons = samples.explain_skipped() if samples.skipped else ""
        raise ValueError(f"{data}: no sample can be used {reasons}".strip())
    lacking = sum(samples.skipped.values())
    if not request.lists_keys and lacking > max_unusable(samples.total):
        raise ValueError(
            f"{data}: {lacking:,} of {samples.total:,} samples cannot be used, more than {MAX_UNUSABLE_FRACTION:.0%} "
            f"{samples.explain_skipped()}; repair the files, or {KEYS_REMEDY}"
        )
    return samples


def open_all_samples(data: str, request: SampleRequest) -> Samples:
    """Open the usable samples of data, also where a training refuses them for the others; ValueError or OSError."""
    return _open(data, replace(request, lists_keys=True))


def _open(data: str, request: SampleRequest) -> Samples:
    """Open samples with the first source that recognises the data; remark which others do."""
    source, *others = _get_sources(data)
    with name_source_in_errors(source, data):
        samples: object = source.open(data, request)
    if not isinstance(samples, Samples):
        expected = f"expected a {Samples.__name__} of {Samples.__module__}"
        opened = f"{source.name} are opened as {type(samples).__name__}"
        raise ValueError(f"data={data}: {opened}, {expected}")  # noqa: TRY004
    if others:
        names = " and ".join(other.name for other in others)
        remedy = "name their file, or move them into a folder of their own"
        samples.remarks = (
            *samples.remarks,
            f"the {source.name} there are read, {names} are not: {remedy}",
        )
    return samples


def max_unusable(total: int) -> float:
    """Return the largest tolerated number of unusable samples."""
    return max(float(MIN_TOLERATED), MAX_UNUSABLE_FRACTION * total)


def caption_files(data: str, caption: str | None) -> list[Path]:
    """Return files with the captions of data in the order of their positions, in a format that `label` reads.

    They are the files of the source, or a table that is written into the user's cache, whose columns have the names of
    the choice's fields.
    """
    source = get_source(data)
    if source.has_caption_files:
        return data_files(data)
    choice = parse_caption_choice(caption)
    key = f"{data} {data_digest(data)} {choice.names} {sorted(LOADED_EXTENSIONS.items())}"
    path = pack_cache() / f"captions-{sha256(key.encode()).hexdigest()[:16]}.parquet"
    if not path.is_file():
        samples = _open(data, SampleRequest(cache=pack_cache(), captions=choice))
        _write_captions(samples, choice, path)
    return [path]


def _write_captions(samples: Samples, choice: CaptionChoice, path: Path) -> None:
    """Write a Parquet file with the keys and the texts of samples, a column for each field of the choice."""
    names = ["key", *(name or CAPTION_COLUMNS[0] for name in choice.names)]
    types = [pa.string(), *[pa.list_(pa.string())] * len(choice.names)]
    schema = pa.schema([*zip(names, types, strict=True)])
    with atomic_write(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for first in range(0, len(samples), MAX_BATCH_ROWS):
            rows = range(first, min(first + MAX_BATCH_ROWS, len(samples)))
            texts = [samples.texts(row) for row in rows]
            columns = [[samples.key(row) for row in rows], *zip(*texts, strict=True)]
            writer.write_batch(pa.record_batch([*map(pa.array, columns, types)], schema))


def with_caption_files(name: str, caption: str | None) -> list[str]:
    """Return an input of `label`, or the files with its captions where `label` does not read those of its source."""
    sources = find_sources(name)
    if not sources or sources[0].has_caption_files:
        return [name]
    return [str(path) for path in caption_files(name, caption)]


def files_digest(files: Iterable[Path]) -> str:
    """Return a digest that changes if a file is replaced, added or removed."""
    return sha256("".join(map(digest_file_excerpts, files)).encode()).hexdigest()[:16]


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
    return sha256(
        f"{data_digest(experiment.input.data)} {files_digest(files)}".encode()
    ).hexdigest()[:16]


@contextmanager
def name_source_in_errors(source: DataSource, data: str) -> Iterator[None]:
    """Raise an error of a source's code that is no ValueError or OSError as a ValueError with its name."""
    try:
        yield
    except (ValueError, OSError):
        raise
    except Exception as error:
        reason = describe_error(f"{type(error).__name__}: {error}")
        raise ValueError(f"data={data}: {source.name} cannot be read: {reason}") from error
