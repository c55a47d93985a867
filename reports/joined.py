"""The comparisons of a folder in groups that can be compared: the first is the page, the others are tables of it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from bench.experiment.config import (
    FIELDS_IGNORED_IN_ROWS,
    MAY_DIFFER,
    Experiment,
    change,
    differing_field_values,
    field_names_of,
    format_differences,
    get_field,
    unexpected_differences,
)
from bench.interfaces.catalog import RANDOM_INIT, REFERENCES
from bench.interfaces.sections import OtherResults
from bench.records.record import (
    EQUAL_IMAGES,
    EQUAL_SECONDS,
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

JOINED = (Speed, Memory, Training, TransferScores, Failure, MeasuredFigures, UnknownRecordContent)
STAND_ALONE = {"smoke", "explain"}  # purposes of comparisons that are not joined with others
REPEATED = "The results above are of the same experiments."
Key = tuple[object, ...]


@dataclass(slots=True)
class ResultGroup:
    """Results that can be compared."""

    comparisons: list[str] = field(default_factory=list)  # that the records are of
    records: list[Record] = field(default_factory=list)
    _names: dict[Key, str] = field(default_factory=dict)  # of experiments, by row
    # Rows and images whose seconds the equal device seconds are.
    _slowest: set[Key] = field(default_factory=set)

    def add(self, comparison: str, records: Sequence[Record]) -> list[Record]:
        """Add the records that the group lacks, if any is a result; return those that it does not take."""
        added, superseded = _split_superseded(self.records, records)
        has_result = any(map(_is_result, added))
        if self.records and not has_result:
            return list(records)
        slowest = _slowest_rows(added)
        if not self._slowest:
            self._slowest = slowest
        has_other_seconds = bool(slowest) and self._slowest.isdisjoint(slowest)
        self.comparisons.append(comparison)
        self.records += [self._renamed(record, has_other_seconds) for record in added]
        return superseded if any(map(_is_result, superseded)) else []

    def _renamed(self, record: Record, has_other_seconds: bool) -> Record:
        """Return a record under the name that the page has for its experiment, and without other device seconds."""
        experiment = record.experiment
        if experiment is None:
            return record
        name = self._names.setdefault(row_key(experiment), experiment.name)
        measured = record.measured
        if isinstance(measured, TransferScores) and measured.subject == experiment.name:
            measured = replace(measured, subject=name)
            if has_other_seconds:
                measured = replace(measured, budgets=())
        return replace(record, experiment=change(experiment, name=name), measured=measured)


def comparison_files(results: Path) -> dict[str, list[Path]]:
    """Return the records' files by comparison, oldest first, in a folder and in the folders of trainings below it.

    A comparison in a folder of a training is named with the folder.
    """
    trainings = results.glob("*/*-train.*.json")
    folders = {results, *(path.parent for path in trainings)}
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


def group_results(
    comparisons: Mapping[str, Sequence[Record]],
) -> tuple[ResultGroup, list[OtherResults]]:
    """Return the results of a folder's page, and the others that cannot be compared with them.

    `comparisons` has the records by comparison, oldest first. Each joins the first group of results that it can be
    compared with. The page has the group in which most kinds of results compare experiments, the newest of these.

    Timed runs of a group are of one comparison: of that with most experiments, then most runs, then the newest. A
    training with the seed and the images of another one is a repetition, and so is a second score of a tower.
    """
    order = list(comparisons)

    def preference(name: str) -> tuple[int, int, int]:
        records = comparisons[name]
        timed = [record.experiment_name for record in records if isinstance(record.measured, Speed)]
        num_experiments = len(set(timed))
        age = order.index(name)
        return num_experiments, len(timed), age

    groups = list[ResultGroup]()
    for name in sorted(order, key=preference, reverse=True):
        rest = list(comparisons[name])
        for group in groups:
            if rest and not _reason_apart(group.records, rest):
                rest = group.add(name, rest)
        if rest:
            groups.append(ResultGroup())
            groups[-1].add(name, rest)
    for group in groups:
        group.comparisons.sort(key=order.index, reverse=True)
    page, *others = sorted(groups, key=_rank, reverse=True)
    apart = []
    for group in others:
        reason = _reason_apart(page.records, group.records) or REPEATED
        apart.append(OtherResults(group.comparisons, group.records, reason))
    return page, apart


def _rank(group: ResultGroup) -> tuple[bool, int, int, bool, str]:
    """Return what makes a group the results of the page, the most important first."""
    results = filter(_is_result, group.records)
    kinds = group_by(results, lambda record: type(record.measured))
    num_compared = 0
    for records in kinds.values():
        names = {record.experiment_name for record in records}
        if len(names) > 1:
            num_compared += 1
    newest = group.comparisons[0].rpartition("/")[2]
    is_smoke_test = newest.endswith("-smoke")
    return not is_smoke_test, num_compared, len(kinds), Speed in kinds, newest


def _reason_apart(page: Sequence[Record], records: Sequence[Record]) -> str:
    """Return the reason why records cannot be compared with those of a group; empty if they can."""
    both = [*page, *records]
    if not all(isinstance(record.measured, JOINED) for record in both):
        return "Only timed runs, trainings and scores are joined."
    comparisons = {record.comparison for record in both}
    purposes = {name.rpartition("-")[2] for name in comparisons}
    if len(comparisons) > 1 and purposes & STAND_ALONE:
        return "Results of smoke tests and of explain are not joined with others."
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
        return f"They differ from those above in {format_differences(differences)}."
    test_sets = dict(_test_sets(page))
    for task, test_set in _test_sets(records):
        if test_sets.get(task, test_set) != test_set:
            return f"Their task {task} has other test images."
    return ""


def _slowest_rows(records: Iterable[Record]) -> set[Key]:
    """Return the rows and images of the experiments whose time for these is the time of equal device seconds."""
    rows = set[Key]()
    for record in records:
        budgets = getattr(record.measured, "budgets", ())
        is_slowest = {EQUAL_IMAGES, EQUAL_SECONDS} <= {*budgets}
        if is_slowest and record.experiment is not None:
            images = record.experiment.training.images
            rows.add((row_key(record.experiment), images))
    return rows


def _experiments(records: Iterable[Record]) -> list[Experiment]:
    """Return the distinct experiments of records."""
    experiments = dict[Experiment, None]()
    for record in records:
        if record.experiment is not None:
            experiments[record.experiment] = None
    return list(experiments)


def _split_superseded(
    page: Sequence[Record], records: Sequence[Record]
) -> tuple[list[Record], list[Record]]:
    """Return the records that a group lacks, and other results of runs that it has; equal ones are left out."""
    known = set[Key]()
    for record in page:
        known.update(_identity_keys(record))
    added = []
    superseded = []
    for record in records:
        if known.isdisjoint(_identity_keys(record)):
            added.append(record)
        elif all(record.measured != shown.measured for shown in page):
            superseded.append(record)
    return added, superseded


def _is_result(record: Record) -> bool:
    """Return whether a record is of a speed, a training, a tower's score or an added measurement."""
    measured = record.measured
    subject = getattr(measured, "subject", None)
    is_reference = subject in (RANDOM_INIT, *REFERENCES)
    return not is_reference and not isinstance(measured, (Failure, Memory))


def _identity_keys(record: Record) -> Iterator[Key]:
    """Yield a key for a record, or one for each score; a record with a key of a newer comparison is a repetition."""
    experiment = record.experiment
    seed = None if experiment is None else experiment.seed
    match record.measured:
        case Speed() | Memory():
            yield ("timed",)
        case Training() if experiment is not None:
            yield "training", row_key(experiment), experiment.training.images, seed
        case MeasuredFigures() as figures:
            yield "figures", figures.measurement
        case UnknownRecordContent() as unknown:
            yield "kind", unknown["kind"]
        case TransferScores() as transfer:
            init = None if experiment is None else experiment.image.random_init_key
            subject: Key = (transfer.subject, init)
            if experiment is not None and transfer.subject == experiment.name:
                subject = (row_key(experiment), transfer.images)
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
