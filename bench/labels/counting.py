"""Count the labels of captions: those of a data source in this process, those of files in several processes."""

import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from functools import partial
from pathlib import Path

import pyarrow as pa

from bench.console.console import log
from bench.console.progress import iterate_with_progress_bar
from bench.data.captions.batches import collect_caption_batches
from bench.data.captions.choice import parse_caption_choice
from bench.data.captions.files import read_caption_batches
from bench.data.captions.reader import CaptionFieldCounts
from bench.data.manifest import user_cache_folder
from bench.data.samples import files_to_count_labels_in, open_source_samples
from bench.data.text_tables import UTF8_REMEDY
from bench.environment.child_processes import (
    exit_with_multiprocessing_parent,
    kill_multiprocessing_children,
)
from bench.environment.cores import count_available_cores
from bench.experiment.fields import SampleSettings
from bench.interfaces.data_source import SampleFieldsRequest
from bench.labels.labeller import LabelTally, get_label_rule, label_and_tally, make_vocabulary
from bench.labels.vocabulary import Vocabulary

MIN_BYTES_PER_PROCESS = 8 * 2**20  # of the files


def count_label_vocabulary(source: SampleSettings, rule_name: str) -> Vocabulary:
    """Count the labels of data or of caption files, and return them as a vocabulary; errors as `count_labels`."""
    return make_vocabulary(get_label_rule(rule_name), count_labels([source], rule_name))


def count_labels(
    sources: Sequence[SampleSettings], rule_name: str, num_workers: int | None = None
) -> LabelTally:
    """Count the labels of data or of caption files; log how many captions are missing or not UTF-8.

    All sources have the same choice of captions. Files are counted by `num_workers` processes; None: one per core, or
    fewer for small files. ValueError or OSError for a file that cannot be read, ValueError for a field that no caption
    has.
    """
    total = LabelTally()
    files = dict[Path, None]()
    for source in sources:
        files_of_source = files_to_count_labels_in(source)
        files |= dict.fromkeys(files_of_source)
        if not files_of_source:
            total.add(_count_sample_labels(source, rule_name))
    caption_option = sources[0].caption_fields
    num_bytes = sum(path.stat().st_size for path in files)
    workers = num_workers or min(count_available_cores(), 1 + num_bytes // MIN_BYTES_PER_PROCESS)
    count = partial(_count_file_labels, rule_name, caption_option)
    with closing(_map_in_processes(count, list(files), min(workers, len(files)))) as tallies:
        for tally in iterate_with_progress_bar(tallies, len(files), "reading captions", "files"):
            total.add(tally)
    if total.missing:
        log(f"{total.missing:,} rows have no caption or one that is too long, and no labels")
    if total.repaired:
        log(
            f"{total.repaired:,} captions are not UTF-8, and labelled after a repair: {UTF8_REMEDY}"
        )
    if files:
        total.field_counts.require_fields(parse_caption_choice(caption_option))
    return total


def _count_sample_labels(source: SampleSettings, rule_name: str) -> LabelTally:
    """Count the labels of all texts of the samples of a data source.

    Their index lies in the user's cache.
    """
    choice = parse_caption_choice(source.caption_fields)
    request = SampleFieldsRequest(
        cache=user_cache_folder(), captions=choice, image_column=source.image_column
    )
    samples = open_source_samples(source.data, request)
    rows = iterate_with_progress_bar(
        range(len(samples)), len(samples), "reading captions", "samples"
    )
    batches = collect_caption_batches(map(samples.captions_by_field, rows))
    return _count_labels_of_batches(batches, rule_name)


def _count_labels_of_batches(batches: Iterable[pa.BinaryArray], rule_name: str) -> LabelTally:
    total = LabelTally()
    for captions in batches:
        _, tally = label_and_tally(get_label_rule(rule_name), captions)
        total.add(tally)
    return total


def _count_file_labels(rule_name: str, caption_option: str | None, path: Path) -> LabelTally:
    """Count the labels of the captions that `--caption-fields` chooses from a file."""
    field_counts = CaptionFieldCounts()
    batches = read_caption_batches(path, caption_option, field_counts)
    total = _count_labels_of_batches(batches, rule_name)
    total.field_counts = field_counts
    return total


def _map_in_processes(
    count: Callable[[Path], LabelTally], files: Sequence[Path], num_workers: int
) -> Generator[LabelTally, None, None]:
    """Yield the counts of each file, counted by some processes, or by this one if there would be one.

    ChildProcessError if a process was killed.
    """
    if num_workers <= 1:
        yield from map(count, files)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_workers, context, _limit_threads_and_exit_with_parent)
    try:
        # The processes that this starts inherit the mask, and leave Ctrl-C to their parent.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            tallies = pool.map(count, files)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        yield from tallies
    except BaseException as error:
        # Else the end of the pool would wait for the files that the processes are counting, which may take minutes.
        kill_multiprocessing_children()
        if isinstance(error, BrokenProcessPool):
            raise ChildProcessError(
                "a labelling process was killed: check the free memory; label --workers 1 needs the least"
            ) from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _limit_threads_and_exit_with_parent() -> None:
    """Use one thread, and exit whenever the parent ends."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    exit_with_multiprocessing_parent()
