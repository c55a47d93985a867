"""The verb `label`: labels captions, counts vocabularies, and explains the labels of a caption."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from bench.cli.options import Caption, Image, Json, VocabularyFile
from bench.cli.own_vocabulary import cut_vocabulary, save_vocabulary
from bench.console.console import FAILED_CASE, OK, PROGRAM, USAGE, describe_error, log, require_utf8
from bench.console.options import require_range
from bench.console.progress import show_progress
from bench.console.tables import print_tables
from bench.data.captions.choice import parse_caption_choice
from bench.data.captions.files import CaptionFile, find_caption_files
from bench.data.samples import caption_files, find_source
from bench.data.text_tables import UTF8_REMEDY
from bench.environment.cores import count_available_cores
from bench.experiment.fields import InputSettings
from bench.features.label.parallel import run_jobs
from bench.features.label.tables import (
    captions_table,
    explanation_table,
    frequent_labels_table,
)
from bench.labels.label_files import LabelJob, is_labelled, require_single_caption_field
from bench.labels.labeller import Tally, get_labeller, get_rule, vocabulary_of_tally
from bench.labels.vocabulary import Vocabulary, read_vocabulary

MIN_BYTES_PER_PROCESS = 8 * 2**20  # of the input


@dataclass(frozen=True, slots=True)
class Label:
    """Extract labels from caption files, or count labels into a vocabulary.

    Inputs are parquet, csv, tsv, jsonl, plain text and webdataset tar files. Each input leaves a parquet file of `key`
    and `labels` in its order; complete files are skipped when the command is repeated.
    """

    # files, globs or folders of captions
    inputs: Annotated[Positional[tuple[str, ...]], arg(metavar="PATH ...")] = ()
    # folder for the label files; with --count-only: .json file for the vocabulary
    out: Path | None = None
    vocabulary: VocabularyFile = None
    # rule that finds labels in captions: corenet, paper or subword; default: the rule of --vocabulary, else corenet
    rule: Annotated[str | None, arg(metavar="RULE")] = None
    caption: Caption = None
    image: Image = None
    count_only: bool = False  # count the labels into a vocabulary, and write no label files
    min_count: int | None = None  # with --count-only: smallest count of a label in the vocabulary
    size: int | None = None  # with --count-only: largest number of labels in the vocabulary
    # print the labels of this caption by --rule, and do nothing else
    explain: Annotated[str | None, arg(metavar="CAPTION")] = None
    workers: int | None = None  # number of processes; default: number of cores
    json: Json = None

    def run(self) -> int:
        """Explain a caption, count a vocabulary, or label files."""
        require_range("min-count", self.min_count, 1, 1e12)
        require_range("size", self.size, 1, 1e12)
        require_range("workers", self.workers, 1, 1024)
        if not self.count_only and (self.min_count or self.size):
            raise ValueError("--min-count and --size need --count-only")
        if self.explain is not None:
            rule = get_rule(self._rule_name())
            print_tables([explanation_table(rule, self.explain)], self.json)
            return OK
        if self.out is None:
            raise ValueError("--out is missing: name the file or folder of the output")
        try:
            if not self.count_only:
                return self._label(self.out.absolute())
            vocabulary = cut_vocabulary(self.count_labels(), self.min_count or 1, self.size)
        except ChildProcessError as died:
            log(f"error: {died}")
            return FAILED_CASE
        save_vocabulary(vocabulary, self.out)
        return OK

    def count_labels(self) -> Vocabulary:
        """Count the labels of the captions, and print their tables; ValueError, after their errors, if files failed."""
        rule = get_rule(self._rule_name())
        jobs = [LabelJob(shard.path, rule.name, self.caption) for shard in self._find_shards()]
        total, num_failures, seconds = self._run(jobs)
        vocabulary = vocabulary_of_tally(rule, total)
        table = captions_table(total, total.captions / seconds)
        print_tables([table, frequent_labels_table(vocabulary.labels)], self.json)
        if num_failures:
            raise ValueError(
                f"{num_failures} of {len(jobs)} files failed: a vocabulary of the others would look complete"
            )
        return vocabulary

    def _label(self, folder: Path) -> int:
        """Label the shards that have no file of labels in the folder."""
        if self.vocabulary is None:
            raise ValueError(
                f"--vocabulary FILE is missing; make one with: {PROGRAM} label IN --count-only --out FILE"
            )
        rule = self._rule_name()
        require_single_caption_field(self.caption)
        # An incompatible pair raises one error, not one per file.
        get_labeller(rule, self.vocabulary)
        jobs = []
        for shard in self._find_shards():
            target = folder / shard.labels_name
            job = LabelJob(shard.path, rule, self.caption, self.vocabulary, target)
            jobs.append(job)
        require_utf8(*(str(job.source) for job in jobs))  # the label files have the same names
        todo = [job for job in jobs if not is_labelled(job)]
        if len(todo) < len(jobs):
            log(f"{len(jobs) - len(todo)} of {len(jobs)} files are already labelled")
        total, num_failures, seconds = self._run(todo)
        print_tables([captions_table(total, total.captions / seconds)], self.json)
        return USAGE if num_failures else OK

    def _rule_name(self) -> str:
        """Return the name of --rule or of the vocabulary's rule, else "corenet"; ValueError if the two differ."""
        if self.vocabulary is None:
            return self.rule or "corenet"
        rule = read_vocabulary(self.vocabulary).rule
        if self.rule not in (None, rule):
            raise ValueError(
                f"{self.vocabulary} is a vocabulary of the rule {rule!r}, not of {self.rule!r}"
            )
        return rule

    def _find_shards(self) -> Sequence[CaptionFile]:
        """Return the inputs; ValueError where one file of labels would be of several inputs."""
        inputs = list[str]()
        for name in self.inputs:
            if find_source(name) is None:
                inputs.append(name)
            else:
                settings = InputSettings(data=name, caption=self.caption, image_column=self.image)
                inputs += map(str, caption_files(settings))
        shards = find_caption_files(inputs, self.out)
        name, count = Counter(shard.labels_name for shard in shards).most_common(1)[0]
        if count > 1:
            raise ValueError(
                f"{count} inputs differ from {name} by their suffix alone, as do a tar file and img2dataset's table "
                "of its captions: name the files of one suffix"
            )
        return shards

    def _run(self, jobs: Sequence[LabelJob]) -> tuple[Tally, int, float]:
        """Run jobs under a progress bar, and log errors; return the tally, the number of errors and the seconds.

        ValueError for a named field that no caption has.
        """
        total = Tally()
        num_failures = 0
        num_bytes = sum(job.size for job in jobs)
        max_workers = min(count_available_cores(), 1 + num_bytes // MIN_BYTES_PER_PROCESS)
        workers = max(1, min(self.workers or max_workers, len(jobs)))
        start = time.monotonic()
        with closing(run_jobs(jobs, workers)) as outcomes:
            for outcome in show_progress(outcomes, len(jobs), "reading captions", "files"):
                if isinstance(outcome, Tally):
                    total.add(outcome)
                else:
                    log(f"error: {describe_error(outcome)}")
                    num_failures += 1
        if total.missing:
            log(f"{total.missing:,} rows have no caption or one that is too long, and no labels")
        if total.repaired:
            log(
                f"{total.repaired:,} captions are not UTF-8, and labelled after a repair: {UTF8_REMEDY}"
            )
        if jobs and not num_failures:
            total.field_counts.require(parse_caption_choice(self.caption))
        return total, num_failures, time.monotonic() - start


def count_labels(files: Iterable[Path], rule: str, caption: str | None) -> Vocabulary:
    """Count the labels of files on all cores, and print their tables; ValueError, after their errors, if files failed.

    It is the hook `count_labels` (bench/interfaces/hooks.py).
    """
    return Label(tuple(map(str, files)), count_only=True, rule=rule, caption=caption).count_labels()
