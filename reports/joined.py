"""The comparisons of a folder that belong on one page: speeds, trainings and scores of equal experiments."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from bench.experiment.config import (
    FIELDS_IGNORED_IN_ROWS,
    MAY_DIFFER,
    Experiment,
    are_replicates,
    change,
    differing_fields,
    fields_of,
    format_differences,
    get_field,
    unexpected_differences,
)
from bench.interfaces.catalog import RANDOM_INIT, REFERENCES
from bench.records.record import (
    BatchTrial,
    Failure,
    Figures,
    Memory,
    Record,
    Speed,
    Training,
    Transfer,
    comparison_from_filename,
    record_files,
)
from bench.records.record_kind import UnknownKind

# Kinds of records that a page has of one comparison, whose rounds belong together.
SPEED_AND_MEMORY = (
    Speed,
    Memory,
    BatchTrial,
)
JOINED = (*SPEED_AND_MEMORY, Training, Transfer, Failure, Figures, UnknownKind)
Key = tuple[object, ...]


@dataclass(slots=True)
class JoinedRecords:
    """The records of a page."""

    comparisons: list[str] = field(default_factory=list)  # that the records are of, newest first
    records: list[Record] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)  # other comparisons, with the reason
    _names: dict[Key, str] = field(default_factory=dict)  # of experiments, by row

    def add(self, comparison: str, records: Iterable[Record]) -> None:
        """Add records of a comparison, with the name that the page has for each experiment."""
        self.comparisons.append(comparison)
        self.records += map(self._renamed, records)

    def _renamed(self, record: Record) -> Record:
        one, measured = record.experiment, record.measured
        if one is None:
            return record
        name = self._names.setdefault(row_key(one), one.name)
        if isinstance(measured, Transfer) and measured.subject == one.name:
            measured = replace(measured, subject=name)
        return replace(record, experiment=change(one, name=name), measured=measured)


def comparison_files(results: Path) -> dict[str, list[Path]]:
    """Return the records' files by comparison, oldest first, in a folder and in the folders of trainings below it.

    A comparison in a folder of a training is named with the folder.
    """
    folders = [
        results,
        *sorted({tower.parent for tower in results.glob("*/*.tower.*.safetensors")}),
    ]
    found = [
        (comparison_from_filename(path), folder, path)
        for folder in folders
        for path in record_files(folder)
    ]
    files: dict[str, list[Path]] = {}
    for comparison, folder, path in sorted(found):
        files.setdefault((folder.relative_to(results) / comparison).as_posix(), []).append(path)
    return files


def row_key(experiment: Experiment) -> Key:
    """Return the settings that all records of one row of a page share."""
    fields = (
        name for name in fields_of(experiment) if name not in ("name", *FIELDS_IGNORED_IN_ROWS)
    )
    return tuple(get_field(experiment, name) for name in fields)


def join_comparisons(found: Mapping[str, Sequence[Record]]) -> JoinedRecords:
    """Join the newest comparison with older ones of comparable experiments on the same machine.

    `found` has the records by comparison, oldest first. Timed runs are those of the newest comparison that has any.
    Towers and their scores are those of the newest training of an experiment, and of its trainings with other seeds. Of
    equal scores the newest is taken.
    """
    joined = JoinedRecords()
    unfinished = [name for name, records in found.items() if _has_only_memory_records(records)]
    for name in reversed([*found]):
        if name in unfinished and len(unfinished) < len(found):
            joined.left_out[name] = "it has no speed record, training or score yet"
        elif joined.records and (reason := _reason_not_joined(joined.records, found[name])):
            joined.left_out[name] = reason
        elif added := _not_superseded(joined.records, found[name]):
            joined.add(name, added)
        else:
            joined.left_out[name] = "this page has newer records of the same"
    if not joined.comparisons:  # nothing but failures and reference features
        newest = [*found][-1]
        joined.add(newest, found[newest])
        del joined.left_out[newest]
    return joined


def _has_only_memory_records(records: Sequence[Record]) -> bool:
    """Return whether a comparison holds nothing but memory and largest batches, as if interrupted before its rounds."""
    return all(isinstance(one.measured, (Memory, BatchTrial)) for one in records)


def _reason_not_joined(page: Sequence[Record], records: Sequence[Record]) -> str:
    """Return the reason why the records of a comparison do not belong to the page; empty if they do."""
    if not all(isinstance(one.measured, JOINED) for one in (*page, *records)):
        return "only timed runs, trainings and scores are joined"
    shown, others = (
        [one.experiment for one in rows if one.experiment is not None] for rows in (page, records)
    )
    allowed = {
        *MAY_DIFFER,
        *FIELDS_IGNORED_IN_ROWS,
        *differing_fields(shown),
        *differing_fields(others),
    }
    differences = unexpected_differences([*shown, *others], allowed)
    machines = dict.fromkeys(one.circumstances.machine_and_gpu for one in (*page, *records))
    if len(machines) > 1:
        differences["machine"] = tuple(machines)
    if differences:
        return f"it differs in {format_differences(differences)}"
    tests = {task: test for record in page for task, test in _test_sets(record)}
    changed = [
        task
        for record in records
        for task, test in _test_sets(record)
        if tests.get(task, test) != test
    ]
    return f"its task {changed[0]} has other test images" if changed else ""


def _not_superseded(page: Sequence[Record], records: Sequence[Record]) -> list[Record]:
    """Return the records of a comparison of which the page has no newer ones."""
    has_timed = any(isinstance(one.measured, SPEED_AND_MEMORY) for one in page)
    trained: dict[Key, Experiment] = {}  # the newest training by row
    for one in filter(None, map(_trained_experiment, (*page, *records))):
        trained.setdefault(row_key(one), one)
    there = {key for record in page for key in _identity_keys(record)}
    kept = []
    for record in records:
        tower = _trained_experiment(record)
        is_older = tower is not None and not are_replicates(trained[row_key(tower)], tower)
        is_new = (
            not has_timed
            if isinstance(record.measured, SPEED_AND_MEMORY)
            else there.isdisjoint(_identity_keys(record))
        )
        if is_new and not is_older:
            kept.append(record)
    return kept if any(map(_is_measured, kept)) else []


def _is_measured(record: Record) -> bool:
    """Return whether a record is of a timed run, a training or a tower: not of a failure or of reference features."""
    subject = getattr(record.measured, "subject", None)
    return not isinstance(record.measured, Failure) and subject not in (RANDOM_INIT, *REFERENCES)


def _trained_experiment(record: Record) -> Experiment | None:
    """Return the training that a record is of, as its own or as one of its tower's scores; None for another record."""
    one, measured = record.experiment, record.measured
    is_training = isinstance(measured, Training)
    return one if one and (is_training or getattr(measured, "subject", None) == one.name) else None


def _identity_keys(record: Record) -> Iterator[Key]:
    """Yield a key for a training, a measurement or an unknown kind, or one for each score.

    A record that has a key of one of a newer comparison is a repetition.
    """
    one, measured = record.experiment, record.measured
    if isinstance(measured, Training) and one is not None:
        yield "training", row_key(one), one.seed
    if isinstance(measured, Figures):
        yield "figures", measured.measurement
    if isinstance(measured, UnknownKind):
        yield "kind", measured["kind"]
    if isinstance(measured, Transfer):
        tower = _trained_experiment(record)
        init = one.image.random_init_kind if one is not None else None
        subject = (row_key(tower), measured.images) if tower else (measured.subject, init)
        seed = None if one is None else one.seed
        for score in measured.scores:
            labels = (score.per_class, score.label_share)
            yield subject, seed, score.task, score.protocol, labels, score.draw
        for metric in measured.metrics:
            yield subject, seed, metric.task, metric.protocol, metric.name, metric.draw


def _test_sets(record: Record) -> Iterator[tuple[str, Key]]:
    """Yield the tasks of a record with what tells their test images apart: their number and their classes."""
    if isinstance(record.measured, Transfer):
        for score in record.measured.scores:
            yield score.task, (len(score.correct), score.num_classes, score.majority)
        for metric in record.measured.metrics:
            yield metric.task, (metric.num_test,)
