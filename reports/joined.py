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
    differing_field_values,
    field_names_of,
    format_differences,
    get_field,
    unexpected_differences,
)
from bench.interfaces.catalog import RANDOM_INIT, REFERENCES
from bench.records.record import (
    Failure,
    MeasuredFigures,
    Memory,
    Record,
    Speed,
    Training,
    TransferScores,
    comparison_name_from_filename,
    list_record_files,
)
from bench.records.record_kind import UnknownRecordContent
from bench.tables.groups import group_by

# Kinds of records that a page has of one comparison, whose rounds belong together.
TIMED = (Speed, Memory)
JOINED = (*TIMED, Training, TransferScores, Failure, MeasuredFigures, UnknownRecordContent)
ADDS_NOTHING = "it adds no speed, training or score to this page"
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
        self.records += [self._renamed(record) for record in records]

    def _renamed(self, record: Record) -> Record:
        """Return a record under the name that the page has for its experiment."""
        experiment = record.experiment
        if experiment is None:
            return record
        name = self._names.setdefault(row_key(experiment), experiment.name)
        measured = record.measured
        if isinstance(measured, TransferScores) and measured.subject == experiment.name:
            measured = replace(measured, subject=name)
        return replace(record, experiment=change(experiment, name=name), measured=measured)


def comparison_files(results: Path) -> dict[str, list[Path]]:
    """Return the records' files by comparison, oldest first, in a folder and in the folders of trainings below it.

    A comparison in a folder of a training is named with the folder.
    """
    towers = results.glob("*/*.tower.*.safetensors")
    folders = {results, *(tower.parent for tower in towers)}
    paths = list[Path]()
    for folder in folders:
        paths += list_record_files(folder)
    paths.sort(key=lambda path: (comparison_name_from_filename(path), path.parent, path))

    def comparison(path: Path) -> str:
        folder = path.parent.relative_to(results)
        return (folder / comparison_name_from_filename(path)).as_posix()

    return group_by(paths, comparison)


def row_key(experiment: Experiment) -> Key:
    """Return the settings that all records of one row of a page share."""
    ignored = ("name", *FIELDS_IGNORED_IN_ROWS)
    names = [name for name in field_names_of(experiment) if name not in ignored]
    return tuple(get_field(experiment, name) for name in names)


def join_comparisons(comparisons: Mapping[str, Sequence[Record]]) -> JoinedRecords:
    """Join the newest comparison with older ones of comparable experiments on the same machine.

    `comparisons` has the records by comparison, oldest first. Timed runs are taken from the newest comparison that has
    any. Towers and their scores are taken from the newest training of an experiment, and from its trainings with other
    seeds. Of equal scores the newest is taken.
    """
    joined = JoinedRecords()
    newest_first = list(reversed(list(comparisons)))
    for name in newest_first:
        records = comparisons[name]
        reason = _reason_not_joined(joined.records, records)
        added: list[Record] = []
        if not reason:
            reason = ADDS_NOTHING
            added = _not_superseded(joined.records, records)
        if added:
            joined.add(name, added)
        else:
            joined.left_out[name] = reason
    if not joined.comparisons:  # nothing but failures, memory and reference features
        newest = newest_first[0]
        joined.add(newest, comparisons[newest])
        del joined.left_out[newest]
    return joined


def _reason_not_joined(page: Sequence[Record], records: Sequence[Record]) -> str:
    """Return the reason why the records of a comparison do not belong to the page; empty if they do."""
    if not page:
        return ""
    both = [*page, *records]
    if not all(isinstance(record.measured, JOINED) for record in both):
        return "only timed runs, trainings and scores are joined"
    shown = _experiments(page)
    others = _experiments(records)
    allowed = {
        *MAY_DIFFER,
        *FIELDS_IGNORED_IN_ROWS,
        *differing_field_values(shown),
        *differing_field_values(others),
    }
    differences = unexpected_differences([*shown, *others], allowed)
    machines = dict.fromkeys(record.circumstances.machine_and_gpu for record in both)
    if len(machines) > 1:
        differences["machine"] = tuple(machines)
    if differences:
        return f"it differs in {format_differences(differences)}"
    test_sets = dict(_test_sets(page))
    for task, test_set in _test_sets(records):
        if test_sets.get(task, test_set) != test_set:
            return f"its task {task} has other test images"
    return ""


def _experiments(records: Iterable[Record]) -> list[Experiment]:
    return [record.experiment for record in records if record.experiment is not None]


def _not_superseded(page: Sequence[Record], records: Sequence[Record]) -> list[Record]:
    """Return the records of a comparison that the page lacks; none without a speed, a training or a score."""
    newest: dict[Key, Experiment] = {}  # the newest training by row
    for record in (*page, *records):
        tower = _trained_experiment(record)
        if tower is not None:
            newest.setdefault(row_key(tower), tower)
    known = set[Key]()
    for record in page:
        known.update(_identity_keys(record))
    kept = []
    for record in records:
        tower = _trained_experiment(record)
        is_newest = tower is None or are_replicates(newest[row_key(tower)], tower)
        if is_newest and known.isdisjoint(_identity_keys(record)):
            kept.append(record)
    if not any(_is_result(record) for record in kept):
        return []
    return kept


def _is_result(record: Record) -> bool:
    """Return whether a record is of a speed, a training, a tower's score or an added measurement."""
    subject = getattr(record.measured, "subject", None)
    is_reference = subject in (RANDOM_INIT, *REFERENCES)
    return not is_reference and not isinstance(record.measured, (Failure, Memory))


def _trained_experiment(record: Record) -> Experiment | None:
    """Return the training that a record is of, as its own or as one of its tower's scores; None for another record."""
    experiment = record.experiment
    if experiment is None or isinstance(record.measured, Training):
        return experiment
    is_tower = getattr(record.measured, "subject", None) == experiment.name
    return experiment if is_tower else None


def _identity_keys(record: Record) -> Iterator[Key]:
    """Yield a key for a record, or one for each score; a record with a key of a newer comparison is a repetition."""
    experiment = record.experiment
    seed = None if experiment is None else experiment.seed
    match record.measured:
        case Speed() | Memory():
            yield ("timed",)
        case Training() if experiment is not None:
            yield "training", row_key(experiment), seed
        case MeasuredFigures() as figures:
            yield "figures", figures.measurement
        case UnknownRecordContent() as unknown:
            yield "kind", unknown["kind"]
        case TransferScores() as transfer:
            tower = _trained_experiment(record)
            init = None if experiment is None else experiment.image.random_init_key
            subject: Key = (transfer.subject, init)
            if tower is not None:
                subject = (row_key(tower), transfer.images)
            for score in transfer.scores:
                labels = (score.per_class, score.label_share)
                yield subject, seed, score.task, score.protocol, labels, score.draw
            for metric in transfer.metrics:
                yield subject, seed, metric.task, metric.protocol, metric.name, metric.draw


def _test_sets(records: Iterable[Record]) -> Iterator[tuple[str, Key]]:
    """Yield the tasks of records with what tells their test images apart: their number and their classes."""
    for record in records:
        if isinstance(record.measured, TransferScores):
            for score in record.measured.scores:
                yield score.task, (len(score.correct), score.num_classes, score.majority)
            for metric in record.measured.metrics:
                yield metric.task, (metric.num_test,)
