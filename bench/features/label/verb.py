"""The verb `label`: counts the labels of captions into a vocabulary, and explains the labels of a caption."""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from bench.cli.options import Caption, Image, Json
from bench.cli.own_vocabulary import cut_vocabulary, write_and_log_vocabulary
from bench.console.console import FAILED_CASE, OK, format_error_on_one_line, log
from bench.console.options import require_option_in_range
from bench.console.progress import iterate_with_progress_bar
from bench.console.tables import print_tables
from bench.data.captions.choice import parse_caption_choice
from bench.data.samples import caption_files
from bench.data.text_tables import UTF8_REMEDY
from bench.environment.cores import count_available_cores
from bench.experiment.fields import SampleSettings
from bench.features.label.parallel import count_labels_of_files_in_parallel
from bench.features.label.tables import (
    caption_count_table,
    caption_label_table,
    frequent_labels_table,
)
from bench.labels.counting import count_sample_labels
from bench.labels.labeller import LabelTally, get_label_rule, make_vocabulary
from bench.labels.vocabulary import Vocabulary

MIN_BYTES_PER_PROCESS = 8 * 2**20  # of the input


@dataclass(frozen=True, slots=True)
class CountLabels:
    """Count the labels of captions into a vocabulary, or show the labels of a caption.

    Inputs are data that a training reads, or caption files: parquet, csv, tsv, jsonl, plain text and webdataset tars.
    """

    # data, or files, globs or folders of captions
    inputs: Annotated[Positional[tuple[str, ...]], arg(metavar="PATH ...")] = ()
    # .json file to write: the vocabulary, as --vocabulary reads it; required without --explain
    out: Annotated[Path | None, arg(metavar="FILE")] = None
    # rule that finds labels in captions: corenet (CatLIP's nouns of WordNet), paper (those that a tagger calls nouns)
    # or subword (CLIP's tokens, as in SuperClass)
    rule: Annotated[str, arg(metavar="RULE")] = "corenet"
    caption: Caption = None
    image: Image = None
    min_count: int | None = None  # leave out labels that occur less often; default: 1
    size: int | None = None  # largest number of labels: the most frequent are kept; default: all
    # print the labels of this caption by --rule, and do nothing else
    explain: Annotated[str | None, arg(metavar="CAPTION")] = None
    # number of processes that read files; default: one per core, fewer for files under 8 MiB per process
    workers: int | None = None
    json: Json = None

    def run(self) -> int:
        """Explain a caption, or count a vocabulary."""
        require_option_in_range("min-count", self.min_count, 1, 1e12)
        require_option_in_range("size", self.size, 1, 1e12)
        require_option_in_range("workers", self.workers, 1, 1024)
        if self.explain is not None:
            table = caption_label_table(get_label_rule(self.rule), self.explain)
            print_tables([table], self.json)
            return OK
        if self.out is None:
            raise ValueError("--out is missing: name the .json file for the vocabulary")
        if not self.inputs:
            raise ValueError("no input given: name data, or files, globs or folders of captions")
        try:
            vocabulary = cut_vocabulary(self.count_labels(), self.min_count or 1, self.size)
        except ChildProcessError as died:
            log(f"error: {died}")
            return FAILED_CASE
        write_and_log_vocabulary(vocabulary, self.out)
        return OK

    def count_labels(self) -> Vocabulary:
        """Count the labels of the captions, and print their tables.

        ValueError for a named field that no caption has, and, after their errors, if files failed.
        """
        rule = get_label_rule(self.rule)
        start = time.monotonic()
        total = LabelTally()
        files = dict[Path, None]()
        for name in self.inputs:
            settings = SampleSettings(data=name, caption=self.caption, image_column=self.image)
            files_of_input = caption_files(settings)
            files |= dict.fromkeys(files_of_input)
            if not files_of_input:
                total.add(count_sample_labels(settings, self.rule))
        num_failures = self._add_file_counts_and_log_errors(list(files), total)
        seconds = time.monotonic() - start
        vocabulary = make_vocabulary(rule, total)
        table = caption_count_table(total, total.captions / seconds)
        print_tables([table, frequent_labels_table(vocabulary)], self.json)
        if num_failures:
            raise ValueError(
                f"{num_failures} of {len(files)} files failed: a vocabulary of the others would look complete"
            )
        if files:
            total.field_counts.require_fields(parse_caption_choice(self.caption))
        return vocabulary

    def _add_file_counts_and_log_errors(self, files: Sequence[Path], total: LabelTally) -> int:
        """Add the counts of files to `total`, and log errors; return their number."""
        num_failures = 0
        num_bytes = sum(path.stat().st_size for path in files)
        max_workers = min(count_available_cores(), 1 + num_bytes // MIN_BYTES_PER_PROCESS)
        workers = max(1, min(self.workers or max_workers, len(files)))
        with closing(
            count_labels_of_files_in_parallel(files, self.rule, self.caption, workers)
        ) as outcomes:
            for outcome in iterate_with_progress_bar(
                outcomes, len(files), "reading captions", "files"
            ):
                if isinstance(outcome, LabelTally):
                    total.add(outcome)
                else:
                    log(f"error: {format_error_on_one_line(outcome)}")
                    num_failures += 1
        if total.missing:
            log(f"{total.missing:,} rows have no caption or one that is too long, and no labels")
        if total.repaired:
            log(
                f"{total.repaired:,} captions are not UTF-8, and labelled after a repair: {UTF8_REMEDY}"
            )
        return num_failures


def count_labels(inputs: SampleSettings, rule: str) -> Vocabulary:
    """Count the labels of data on all cores, and print their tables; ValueError, after their errors, if files failed.

    It is the hook `count_labels` (bench/interfaces/hooks.py).
    """
    verb = CountLabels((inputs.data,), rule=rule, caption=inputs.caption, image=inputs.image_column)
    return verb.count_labels()
