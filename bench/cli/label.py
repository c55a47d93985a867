"""The verb `label`: captions in files to labels in files, their vocabulary, and why a caption has its labels."""

import sys
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tqdm import tqdm
from tyro.conf import Positional, arg

from bench.cli.options import Json
from bench.config import told
from bench.console.console import PROGRAM, say
from bench.console.exit_codes import FAILED_CASE, OK, USAGE
from bench.console.tables import show
from bench.data.captions.shards import Shard, part_of, shards_of
from bench.labels.explanation import explanation
from bench.labels.labeller import Tally, labeller
from bench.labels.on_ray import run_jobs_on_ray
from bench.labels.processes import Ended, run_jobs, worth
from bench.labels.rules import rule_named
from bench.labels.shard_job import Job, made, tally_of
from bench.labels.summary import label_table, most_frequent, summary_tables
from bench.labels.vocabulary import Vocabulary, counted, merged, read_vocabulary, vocabulary_path, write_vocabulary
from bench.orchestration.preflight import cores

TOLD_FAILURES = 10


@dataclass(frozen=True, slots=True)
class Label:
    """Turn captions in files into labels, or count the labels that there are.

    Reads parquet, csv, tsv, jsonl, plain text and webdataset tars; names, globs and folders. Leaves a parquet file of
    `key` and `labels` for each, in the input's order; what is finished is not done again.
    """

    inputs: Positional[tuple[str, ...]] = ()
    out: Annotated[Path | None, arg(help="folder for the labels, or file for the vocabulary")] = None
    vocabulary: str | None = None  # a .json file, CoreNet's .pkl, or the name of a shipped one
    rule: str | None = None  # corenet, paper or subword; by default the vocabulary's, or corenet
    column: str | None = None  # of the captions; by default found by its name
    count_only: bool = False  # write a vocabulary; without --min-count and --size it can be merged
    min_count: int | None = None  # leave out rarer labels
    size: int | None = None  # keep so many labels
    merge: tuple[Path, ...] = ()  # add up vocabularies of parts, or make JSON of CoreNet's
    explain: str | None = None  # a caption: what becomes of each of its words
    shards: Annotated[str | None, arg(metavar="K/N", help="only every N-th file, from the K-th on")] = None
    engine: Literal["local", "ray"] = "local"
    workers: int | None = None  # processes; by default as many as cores
    force: bool = False  # do again what is finished
    json: Json = None
    how_to_go_on = "finished files are kept; the same command goes on"

    def run(self) -> int:
        """Do the one thing that was asked for."""
        for name, value in (("min-count", self.min_count), ("size", self.size), ("workers", self.workers)):
            if value is not None and value < 1:
                raise ValueError(f"--{name} must be at least 1, got {value}")
        if self.explain is not None:
            show([explanation(rule_named(self.rule or "corenet"), self.explain)], self.json)
            return OK
        try:
            return self._merge() if self.merge else self._count() if self.count_only else self._label()
        except ChildProcessError as died:
            say(f"error: {died}")
            return FAILED_CASE

    def _merge(self) -> int:
        vocabulary = merged([read_vocabulary(str(path)) for path in self.merge])
        show([label_table(vocabulary.labels)], self.json)
        return self._write(vocabulary)

    def _count(self) -> int:
        self._require_out("FILE")
        rule = rule_named(self.rule or "corenet")
        total, failures, seconds = self._run([Job(shard.path, rule.name, self.column) for shard in self._shards()])
        vocabulary = counted(rule, total.counts, total.captions)
        show(summary_tables(total, total.captions / seconds, vocabulary.labels), self.json)
        return _told(failures) or self._write(vocabulary)  # that of some of the files would pass for that of all

    def _write(self, vocabulary: Vocabulary) -> int:
        out = self._require_out("FILE")
        if self.min_count is not None or self.size is not None:
            vocabulary = vocabulary.cut(self.min_count or 1, self.size)
        write_vocabulary(vocabulary, out)
        print(f"{out}: {len(vocabulary.labels):,} labels", file=sys.stderr)
        return OK

    def _require_out(self, kind: str) -> Path:
        if self.out is None:
            raise ValueError(f"--out {kind} is missing: where to write")
        return self.out

    def _label(self) -> int:
        out = self._require_out("FOLDER")
        if self.vocabulary is None:
            raise ValueError(f"--vocabulary FILE is missing; make one with: {PROGRAM} label IN --count-only --out FILE")
        vocabulary = read_vocabulary(self.vocabulary)
        rule = self.rule or vocabulary.rule
        if rule != vocabulary.rule:
            raise ValueError(f"{self.vocabulary} is a vocabulary of the rule {vocabulary.rule!r}, not of {rule!r}")
        path = str(vocabulary_path(self.vocabulary).absolute())
        labeller(rule, path)  # what does not fit together is told once, not for each file
        jobs = [
            Job(shard.path, rule, self.column, path, out.absolute() / shard.labels_name) for shard in self._shards()
        ]
        _require_distinct(jobs)
        todo, finished = [], Tally()
        for job in jobs:
            found = None if self.force else _finished(job)
            if found is None:
                todo.append(job)
            else:
                finished.add(found)
        if len(todo) < len(jobs):
            print(f"{len(jobs) - len(todo)} of {len(jobs)} files are labelled already", file=sys.stderr)
        total, failures, seconds = self._run(todo)
        rate, labels = total.captions / seconds, most_frequent(vocabulary, total.counts)
        total.add(finished)
        show(summary_tables(total, rate, labels), self.json)
        return _told(failures)

    def _shards(self) -> Sequence[Shard]:
        shards = shards_of(self.inputs, self.out)
        return part_of(shards, self.shards) if self.shards else shards

    def _run(self, jobs: Sequence[Job]) -> tuple[Tally, list[Exception], float]:
        """Run jobs; return the sum of those that went well, why others failed, and the seconds."""
        total, failures, start = Tally(), list[Exception](), time.monotonic()
        with closing(self._progress(jobs)) as ended:
            for _, outcome in ended:
                if isinstance(outcome, Tally):
                    total.add(outcome)
                else:
                    failures.append(outcome)
        return total, failures, time.monotonic() - start

    def _progress(self, jobs: Sequence[Job]) -> Generator[Ended, None, None]:
        """Run jobs under a bar of bytes, which are known beforehand, with captions a second."""
        steady = sys.stderr.isatty()
        bar = tqdm(
            total=sum(job.size for job in jobs),
            unit="B",
            unit_scale=True,
            disable=not jobs,
            mininterval=0.5 if steady else 30,
            bar_format="{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}, {remaining} left{postfix}]",
        )
        captions, start = 0, time.monotonic()

        def report(more_captions: int, more_bytes: int) -> None:
            nonlocal captions
            captions += more_captions
            bar.set_postfix_str(f"{captions / (time.monotonic() - start):,.0f} captions/s", refresh=False)
            bar.update(more_bytes)

        with bar:
            if self.engine == "ray":
                yield from run_jobs_on_ray(jobs, report)
            else:
                yield from run_jobs(jobs, self.workers or worth(jobs, cores()), report)


def _told(failures: Sequence[Exception]) -> int:
    """Tell why files failed; return the exit code."""
    for failure in failures[:TOLD_FAILURES]:
        say(f"error: {failure}")
    if more := failures[TOLD_FAILURES:]:
        say(f"error: and {len(more)} more files")
    return USAGE if failures else OK


def _require_distinct(jobs: Sequence[Job]) -> None:
    """Refuse to write two inputs' labels into one file, or labels over an input."""
    taken: dict[Path | None, Path] = {}
    for job in jobs:
        if job.target in taken:
            raise ValueError(f"{taken[job.target]} and {job.source} would both leave {job.target}: label one at a time")
        taken[job.target] = job.source
    if over := {job.source.resolve() for job in jobs} & {path.resolve() for path in taken if path}:
        raise ValueError(f"the labels would be written over {min(over)}: choose another --out")


def _finished(job: Job) -> Tally | None:
    """Return what was labelled before; None, with a reason, where it has to be done again.

    ValueError for labels of another rule, vocabulary or column: they may be meant to stay.
    """
    assert job.target is not None
    if not job.target.exists():
        return None
    found, origin = made(job.target), job.origin()
    if found is None:
        say(f"{job.target} is no whole file of labels: it is done again")
        return None
    asked = {name: (getattr(found.origin, name), getattr(origin, name)) for name in origin.__struct_fields__}
    if changed := {name: pair for name, pair in asked.items() if pair[0] != pair[1] and name != "input_digest"}:
        raise ValueError(f"{job.target} was made otherwise ({told(changed)}): --force does it again, or another --out")
    if found.origin != origin:
        say(f"{job.source} is not what {job.target} was made of: it is done again")
        return None
    return tally_of(found)
