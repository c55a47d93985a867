"""The verb `label`: labels captions, builds and merges vocabularies, and explains the labels of a caption."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec.structs import replace
from tyro.conf import Positional, arg

from bench.cli.options import Caption, Json
from bench.cli.own_vocabulary import cut_vocabulary, save_vocabulary
from bench.console.console import FAILED_CASE, OK, PROGRAM, USAGE, describe_error, log, require_utf8
from bench.console.options import require_range
from bench.console.progress import make_bar
from bench.console.tables import print_tables
from bench.data.captions.choice import parse_caption_choice
from bench.data.captions.files import TAR_SUFFIXES, CaptionFile, find_caption_files, select_part
from bench.data.paths import compound_suffix
from bench.data.samples import with_caption_files
from bench.environment.cores import available_cores
from bench.environment.files import prefix_errors
from bench.experiment.config import format_differences
from bench.features.label.parallel import count_useful_processes, run_jobs
from bench.features.label.tables import (
    explanation_table,
    frequent_label_table,
    labels_by_descending_count,
    summary_tables,
)
from bench.labels.label_files import (
    LabelJob,
    is_table_without_labels,
    read_label_file_info,
    require_single_caption_field,
)
from bench.labels.labeller import Tally, get_labeller, get_rule, vocabulary_of_tally
from bench.labels.vocabulary import (
    Vocabulary,
    merge_vocabularies,
    read_vocabulary,
    read_vocabulary_or_part,
    vocabulary_path,
)

SHOWN_FAILURES = 10
Shards = Annotated[
    str | None, arg(metavar="K/N", help="share of the files: every N-th, beginning at the K-th")
]


@dataclass(frozen=True, slots=True)
class Label:
    """Extract labels from caption files, or count labels into a vocabulary.

    Inputs are parquet, csv, tsv, jsonl, plain text and webdataset tar files. Each input leaves a parquet file of `key`
    and `labels` in its order; complete files are skipped when the command is repeated.
    """

    inputs: Positional[tuple[str, ...]] = ()  # files, globs or folders of captions
    out: Path | None = None  # folder for the label files, or file for the vocabulary
    vocabulary: str | None = None  # .json file, CoreNet .pkl file or name of a shipped vocabulary
    rule: str | None = (
        None  # labelling rule: corenet, paper or subword; default the vocabulary's, else corenet
    )
    caption: Caption = None
    count_only: bool = (
        False  # write a vocabulary, which can be merged unless --min-count or --size cut it
    )
    min_count: int | None = None  # smallest count of a label in the vocabulary
    size: int | None = None  # largest number of labels in the vocabulary
    merge: tuple[
        Path, ...
    ] = ()  # vocabularies to add up, or one CoreNet vocabulary to convert to JSON
    explain: str | None = None  # caption whose labels are explained word by word
    shards: Shards = None
    workers: int | None = None  # number of processes; default: number of cores
    force: bool = False  # label complete files again
    json: Json = None

    def run(self) -> int:
        """Explain a caption, merge or count a vocabulary, or label files."""
        require_range("min-count", self.min_count, 1, 1e12)
        require_range("size", self.size, 1, 1e12)
        require_range("workers", self.workers, 1, 1024)
        try:
            if self.explain is not None:
                print_tables(
                    [explanation_table(get_rule(self.rule or "corenet"), self.explain)], self.json
                )
                return OK
            if self.merge:
                return self._merge()
            if self.count_only:
                out = self._require_out("FILE")
                return self._save_vocabulary(self.count_labels(), out)
            return self._label()
        except ChildProcessError as died:
            log(f"error: {died}")
            return FAILED_CASE

    def _merge(self) -> int:
        vocabularies = [read_vocabulary_or_part(str(path)) for path in self.merge]
        with prefix_errors(", ".join(map(str, self.merge))):
            vocabulary = merge_vocabularies(vocabularies)
        print_tables([frequent_label_table(vocabulary.labels)], self.json)
        return self._save_vocabulary(vocabulary, self._require_out("FILE"))

    def count_labels(self) -> Vocabulary:
        """Count the labels of the captions, and print their tables; ValueError, after their errors, if files failed."""
        if self.shards and (self.min_count is not None or self.size is not None):
            raise ValueError(
                "--shards counts a part, which --min-count and --size may not cut: give them to --merge"
            )
        rule = get_rule(self.rule or "corenet")
        jobs = [LabelJob(shard.path, rule.name, self.caption) for shard in self._find_shards()]
        total, failures, seconds = self._run(jobs)
        self._require_fields(total, failures)
        vocabulary = replace(vocabulary_of_tally(rule, total), part=self.shards or "")
        print_tables(summary_tables(total, total.captions / seconds, vocabulary.labels), self.json)
        if failures:
            _log_failures(failures)
            raise ValueError(
                f"{len(failures)} of {len(jobs)} files failed: a vocabulary of the others would look complete"
            )
        return vocabulary

    def _save_vocabulary(self, vocabulary: Vocabulary, out: Path) -> int:
        if self.min_count is not None or self.size is not None:
            vocabulary = cut_vocabulary(vocabulary, self.min_count or 1, self.size)
        save_vocabulary(vocabulary, out)
        return OK

    def _require_out(self, kind: str) -> Path:
        if self.out is None:
            raise ValueError(f"--out {kind} is missing: name the output")
        return self.out

    def _label(self) -> int:
        folder = self._require_out("FOLDER").absolute()
        if self.vocabulary is None:
            raise ValueError(
                f"--vocabulary FILE is missing; make one with: {PROGRAM} label IN --count-only --out FILE"
            )
        vocabulary = read_vocabulary(self.vocabulary)
        if self.rule not in (None, vocabulary.rule):
            raise ValueError(
                f"{self.vocabulary} is a vocabulary of the rule {vocabulary.rule!r}, not of {self.rule!r}"
            )
        require_single_caption_field(self.caption)
        path = str(vocabulary_path(self.vocabulary).absolute())
        # An incompatible pair raises one error, not one per file.
        get_labeller(vocabulary.rule, path)
        jobs = [
            LabelJob(shard.path, vocabulary.rule, self.caption, path, folder / shard.labels_name)
            for shard in self._find_shards()
        ]
        require_utf8(*(str(job.source) for job in jobs))  # the label files have the same names
        _require_safe_outputs(jobs)
        todo = []
        finished = Tally()
        for job in jobs:
            tally = None if self.force else _existing_tally(job)
            if tally is None:
                todo.append(job)
            else:
                finished.add(tally)
        if len(todo) < len(jobs):
            log(f"{len(jobs) - len(todo)} of {len(jobs)} files are already labelled")
        total, failures, seconds = self._run(todo)
        captions_per_second = total.captions / seconds
        labels = labels_by_descending_count(vocabulary, total.counts)
        total.add(finished)
        self._require_fields(total, failures)
        print_tables(summary_tables(total, captions_per_second, labels), self.json)
        _log_failures(failures)
        return USAGE if failures else OK

    def _require_fields(self, total: Tally, failures: Sequence[Exception]) -> None:
        """Raise ValueError for a field of captions that no sample has; a part of the files may lack one."""
        if not failures and not self.shards:
            total.field_counts.require(parse_caption_choice(self.caption))

    def _find_shards(self) -> Sequence[CaptionFile]:
        """Return the inputs, without img2dataset's tables: a parquet file beside a tar of its stem has its captions."""
        inputs = chain.from_iterable(with_caption_files(name, self.caption) for name in self.inputs)
        files = find_caption_files(inputs, self.out)
        table_names = {
            file.labels_name for file in files if compound_suffix(file.path) in TAR_SUFFIXES
        }
        shards = [file for file in files if file.name not in table_names]
        num_tables = len(files) - len(shards)
        if num_tables:
            log(
                f"not labelled: {num_tables:,} parquet files with the captions of the tar files of their names "
                "beside them"
            )
        return select_part(shards, self.shards) if self.shards else shards

    def _run(self, jobs: Sequence[LabelJob]) -> tuple[Tally, list[Exception], float]:
        """Run jobs under a progress bar; return the summed tally, the errors of failed jobs, and the seconds."""
        total = Tally()
        failures = list[Exception]()
        captions = 0
        start = time.monotonic()
        bar = make_bar("reading captions", sum(job.size for job in jobs), "B", is_scaled=True)

        def report(more_captions: int, more_bytes: int) -> None:
            nonlocal captions
            captions += more_captions
            bar.set_postfix_str(
                f"{captions / (time.monotonic() - start):,.0f} captions/s", refresh=False
            )
            bar.update(more_bytes)

        workers = self.workers or count_useful_processes(jobs, available_cores())
        with bar, closing(run_jobs(jobs, workers, report)) as outcomes:
            for _, outcome in outcomes:
                if isinstance(outcome, Tally):
                    total.add(outcome)
                else:
                    failures.append(outcome)
        return total, failures, time.monotonic() - start


def count_labels(files: Iterable[Path], rule: str, caption: str | None) -> Vocabulary:
    """Count the labels of files on all cores, and print their tables; ValueError, after their errors, if files failed.

    It is the hook `count_labels` (bench/interfaces/hooks.py).
    """
    return Label(tuple(map(str, files)), count_only=True, rule=rule, caption=caption).count_labels()


def _log_failures(failures: Sequence[Exception]) -> None:
    for failure in failures[:SHOWN_FAILURES]:
        log(f"error: {describe_error(failure)}")
    if len(failures) > SHOWN_FAILURES:
        log(f"error: {len(failures) - SHOWN_FAILURES} more files failed")


def _require_safe_outputs(jobs: Sequence[LabelJob]) -> None:
    """Raise ValueError if two inputs have the same label file, or a label file would replace an input or a table."""
    job_by_target: dict[Path | None, LabelJob] = {}
    for job in jobs:
        other = job_by_target.setdefault(job.target, job)
        if other is not job:
            raise ValueError(
                f"{other.source} and {job.source} would both write {job.target}: label one at a time"
            )
    sources = {job.source.resolve() for job in jobs}
    for job in jobs:
        assert job.target is not None
        target = job.target.resolve()
        if target in sources or is_table_without_labels(target):
            raise ValueError(f"the labels would be written over {target}: choose another --out")


def _existing_tally(job: LabelJob) -> Tally | None:
    """Return the tally of a complete label file, without the counts of each label; None if the job has to run.

    ValueError for labels of another rule, vocabulary or choice of captions, which are not overwritten without --force.
    """
    assert job.target is not None
    if not job.target.exists():
        return None
    info = read_label_file_info(job.target)
    if info is None:
        log(f"{job.target} is not a complete file of labels: it is labelled again")
        return None
    origin = job.origin()
    if info.origin == origin:
        return Tally(
            info.captions,
            info.empty,
            info.labels,
            Counter(info.flaws),
            field_counts=info.field_counts,
        )
    made = msgspec.to_builtins(info.origin)
    options = {}
    for name, value in msgspec.to_builtins(origin).items():
        if made[name] != value and name != "input_digest":
            options[name] = (made[name], value)
    if options:
        differences = format_differences(options)
        raise ValueError(
            f"{job.target} was made with other options ({differences}): use --force or another --out"
        )
    log(f"{job.source} changed since {job.target} was made: it is labelled again")
    return None
