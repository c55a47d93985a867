"""The comparisons of a folder in groups that can be compared: one begins the page, the others are short tables."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from bench.experiment.config import (
    FIELDS_IGNORED_IN_ROWS,
    MAY_DIFFER,
    Experiment,
    change,
    differing_values_by_field,
    field_names_of,
    format_field_differences,
    get_field,
    unexpected_differences,
)
from bench.interfaces.catalog import RANDOM_INIT, REFERENCES
from bench.interfaces.sections import IncomparableResults
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
    list_record_files_of_report,
)
from bench.records.record_kind import UnknownRecordContent
from bench.tables.groups import group_by

JOINED_KINDS = (
    Speed,
    Memory,
    Training,
    TransferScores,
    Failure,
    MeasuredFigures,
    UnknownRecordContent,
)
STAND_ALONE = {"smoke", "explain"}  # purposes of comparisons that are not joined with others
REPEATED = "The results above are of the same experiments."
Key = tuple[object, ...]


@dataclass(slots=True)
class ComparableResults:
    """Results that can be compared, of one comparison or several."""

    comparisons: list[str] = field(default_factory=list)  # names
    records: list[Record] = field(default_factory=list)
    # Of experiments, by `settings_of_page_row`.
    _names: dict[Key, str] = field(default_factory=dict)
    # As of `_rows_that_set_equal_seconds`, of the first comparison that has such rows.
    _rows_that_set_equal_seconds: set[Key] = field(default_factory=set)

    def add_missing(self, comparison: str, records: Sequence[Record]) -> bool:
        """Add the records whose runs are missing here, and return True; False if none of them is a result."""
        known = set[Key]()
        for record in self.records:
            known.update(_repetition_keys(record))
        added = [record for record in records if known.isdisjoint(_repetition_keys(record))]
        if self.records and not any(map(_is_result, added)):
            return False
        slowest_rows = _rows_that_set_equal_seconds(added)
        if not self._rows_that_set_equal_seconds:
            self._rows_that_set_equal_seconds = slowest_rows
        has_other_seconds = bool(slowest_rows) and self._rows_that_set_equal_seconds.isdisjoint(
            slowest_rows
        )
        self.comparisons.append(comparison)
        for record in added:
            self.records.append(self._with_page_name_and_budgets(record, has_other_seconds))
        return True

    def _with_page_name_and_budgets(self, record: Record, has_other_seconds: bool) -> Record:
        """Return a record under the name that its experiment has here, without budgets of other device seconds."""
        experiment = record.experiment
        if experiment is None:
            return record
        name = self._names.setdefault(settings_of_page_row(experiment), experiment.name)
        measured = record.measured
        if isinstance(measured, TransferScores) and measured.subject == experiment.name:
            measured = replace(measured, subject=name)
            if has_other_seconds:
                measured = replace(measured, budgets=())
        return replace(record, experiment=change(experiment, name=name), measured=measured)


def record_files_by_comparison(results: Path) -> dict[str, list[Path]]:
    """Return the files that a page reads by the names of their comparisons, oldest first.

    Names of comparisons in a folder of a training begin with this folder.
    """
    paths = list_record_files_of_report(results)
    paths.sort(key=lambda path: (comparison_name_from_filename(path), path.parent))

    def comparison(path: Path) -> str:
        folder = path.parent.relative_to(results)
        return (folder / comparison_name_from_filename(path)).as_posix()

    return group_by(paths, comparison)


def settings_of_page_row(experiment: Experiment) -> Key:
    """Return the values of the settings that all records of one row of a page share: all but name and seed, mainly."""
    ignored = ("name", *FIELDS_IGNORED_IN_ROWS)
    names = [name for name in field_names_of(experiment) if name not in ignored]
    return tuple(get_field(experiment, name) for name in names)


def choose_page_results(
    comparisons: Mapping[str, Sequence[Record]],
) -> tuple[ComparableResults, list[IncomparableResults]]:
    """Return the results that begin a folder's page, and the others that cannot be compared with them.

    `comparisons` has the records by comparison, oldest first. Each joins the first group of results that it can be
    compared with. The page has the group in which most kinds of results compare experiments, the newest of these.

    Timed runs of a group are of one comparison: of that with most experiments, then most runs, then the newest. A
    training with the seed and the images of another one is a repetition, and so is a second score of a tower;
    repetitions in a comparison that joins are left out.
    """
    oldest_first = list(comparisons)

    def preference(name: str) -> tuple[int, int, int]:
        speeds = [record for record in comparisons[name] if isinstance(record.measured, Speed)]
        num_experiments = len({record.experiment_name for record in speeds})
        return num_experiments, len(speeds), oldest_first.index(name)

    groups = list[ComparableResults]()
    for name in sorted(comparisons, key=preference, reverse=True):
        records = comparisons[name]
        for group in groups:
            if not _reason_not_joined(group.records, records) and group.add_missing(name, records):
                break
        else:
            group = ComparableResults()
            group.add_missing(name, records)
            groups.append(group)
    for group in groups:
        group.comparisons.sort(key=oldest_first.index, reverse=True)
    page, *others = sorted(groups, key=_page_sort_key, reverse=True)
    apart = []
    for group in others:
        if _has_joined_kind(group):
            reason = _reason_not_joined(page.records, group.records) or REPEATED
            apart.append(IncomparableResults(group.comparisons, group.records, reason))
    return page, apart


def _has_joined_kind(group: ComparableResults) -> bool:
    """Return whether a group has results that sections compare; others have sections that read the folder."""
    return any(isinstance(record.measured, JOINED_KINDS) for record in group.records)


def _page_sort_key(group: ComparableResults) -> tuple[bool, bool, int, str]:
    """Return the key by which groups are sorted; that with the largest begins the page."""
    names_by_kind: dict[type, set[str]] = defaultdict(set)
    for record in group.records:
        if _is_result(record):
            names_by_kind[type(record.measured)].add(record.experiment_name)
    num_compared = sum(len(names) > 1 for names in names_by_kind.values())
    newest = group.comparisons[0].rpartition("/")[2]
    is_smoke_test = newest.endswith("-smoke")
    return not is_smoke_test, _has_joined_kind(group), num_compared, newest


def _reason_not_joined(page: Sequence[Record], records: Sequence[Record]) -> str:
    """Return the reason why records cannot be compared with those of the page; empty if they can."""
    both = [*page, *records]
    if not all(isinstance(record.measured, JOINED_KINDS) for record in both):
        return "Only timed runs, trainings and scores are joined."
    comparisons = {record.comparison for record in both}
    purposes = {name.rpartition("-")[2] for name in comparisons}
    if len(comparisons) > 1 and purposes & STAND_ALONE:
        return "Results of smoke tests and of explain are not joined with others."
    shown = _distinct_experiments(page)
    others = _distinct_experiments(records)
    allowed = {
        *MAY_DIFFER,
        *FIELDS_IGNORED_IN_ROWS,
        *differing_values_by_field(shown),
        *differing_values_by_field(others),
    }
    differences = unexpected_differences([*shown, *others], allowed)
    machines = dict.fromkeys(record.circumstances.machine_and_gpu for record in both)
    if len(machines) > 1:
        differences["machine"] = tuple(machines)
    if differences:
        return f"They differ from those above in {format_field_differences(differences)}."
    shown_test_sets = _test_set_by_task(page)
    for task, test_set in _test_set_by_task(records).items():
        if shown_test_sets.get(task, test_set) != test_set:
            return f"Their task {task} has other test images."
    return ""


def _rows_that_set_equal_seconds(records: Iterable[Record]) -> set[Key]:
    """Return the rows, and the numbers of images, of the slowest experiments, whose time sets the equal seconds.

    Their towers at equal images are those at equal device seconds.
    """
    rows = set[Key]()
    for record in records:
        experiment = record.experiment
        budgets = getattr(record.measured, "budgets", ())
        is_slowest = EQUAL_IMAGES in budgets and EQUAL_SECONDS in budgets
        if is_slowest and experiment is not None:
            rows.add((settings_of_page_row(experiment), experiment.training.images_seen))
    return rows


def _distinct_experiments(records: Iterable[Record]) -> list[Experiment]:
    """Return the distinct experiments of records."""
    experiments = dict[Experiment, None]()
    for record in records:
        if record.experiment is not None:
            experiments[record.experiment] = None
    return list(experiments)


def _is_result(record: Record) -> bool:
    """Return whether a record is of a speed, a training, a tower's score or an added measurement."""
    measured = record.measured
    subject = getattr(measured, "subject", None)
    is_reference = subject in (RANDOM_INIT, *REFERENCES)
    return not is_reference and not isinstance(measured, (Failure, Memory))


def _repetition_keys(record: Record) -> Iterator[Key]:
    """Yield keys; a record that shares one with a record of the page repeats its run. All timed records share one."""
    experiment = record.experiment
    seed = None if experiment is None else experiment.seed
    match record.measured:
        case Speed() | Memory():
            yield ("timed",)
        case Training() if experiment is not None:
            yield (
                "training",
                settings_of_page_row(experiment),
                experiment.training.images_seen,
                seed,
            )
        case MeasuredFigures() as figures:
            yield "figures", figures.measurement
        case UnknownRecordContent() as unknown:
            yield "kind", unknown["kind"]
        case TransferScores() as transfer:
            init = None if experiment is None else experiment.image.random_init_key
            subject: Key = (transfer.subject, init)
            if experiment is not None and transfer.subject == experiment.name:
                subject = (settings_of_page_row(experiment), transfer.images)
            for score in transfer.scores:
                labels = (score.per_class, score.label_share)
                yield subject, seed, score.task, score.protocol, labels, score.draw
            for metric in transfer.metrics:
                yield subject, seed, metric.task, metric.protocol, metric.name


def _test_set_by_task(records: Iterable[Record]) -> dict[str, Key]:
    """Return by task what tells test images apart: their number, and for accuracies their classes."""
    test_sets: dict[str, Key] = {}
    for record in records:
        measured = record.measured
        if isinstance(measured, TransferScores):
            for score in measured.scores:
                num_images = len(score.correct)
                test_sets[score.task] = (num_images, score.num_classes, score.majority)
            for metric in measured.metrics:
                test_sets[metric.task] = (metric.num_test,)
    return test_sets
