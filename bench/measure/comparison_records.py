"""Records -> the experiments of one comparison, with their labels, base and speeds. No torch here."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from bench.experiment.config import FIELDS, MAY_DIFFER, Experiment
from bench.experiment.settings import shared_settings_in_brackets, strip_bracketed_settings
from bench.interfaces.method import METHODS, find_method_text
from bench.interfaces.sections import ComparisonView
from bench.measure.summary import summarize_throughputs
from bench.measure.throughput import reason_not_comparable
from bench.records.record import Record, Speed

UNTIMED = "its speed was not measured"  # the reason of an absent figure
# CLIP with other settings, by the first word of the experiment's name.
VARIANTS = {"flip": "FLIP", "clipa": "CLIPA"}


def select_comparison_records(name: str, records: Sequence[Record]) -> ComparisonView:
    """Return the records of one comparison with its experiments, in the order of their methods, and their labels."""
    trained = []
    for record in records:
        experiment = record.experiment
        if experiment is not None:
            # The random-init baseline of a tower has the tower's experiment.
            subject = getattr(record.measured, "subject", experiment.name)
            if subject == experiment.name:
                trained.append(experiment)
    unloaded_methods = {experiment.method for experiment in trained} - METHODS.keys()
    methods = [*METHODS, *sorted(unloaded_methods)]
    trained.sort(key=lambda item: (methods.index(item.method), item.name, item.seed))
    experiments: dict[str, Experiment] = {}
    for experiment in trained:
        experiments.setdefault(experiment.name, experiment)
    labels = _unique_label_by_experiment(experiments.values(), records)
    return _make_comparison_records(name, records, experiments, labels)


def select_comparable_experiment_records(
    records: Sequence[Record], names: Collection[str], may_differ: Iterable[str] = MAY_DIFFER
) -> ComparisonView:
    """Return the records of the experiments of these names, in their order; the first that was timed is the base.

    Their labels are their names, without settings that all of them have.
    Raises ValueError if the timed runs differ in more than the fields that `may_differ`, machines included.
    """
    kept = [record for record in records if record.experiment_name in names]
    timed = [record for record in kept if isinstance(record.measured, Speed)]
    reason = reason_not_comparable(timed, may_differ=may_differ)
    if reason is not None:
        raise ValueError(reason)
    by_name: dict[str, Experiment] = {}
    for record in kept:
        if record.experiment is not None:
            by_name.setdefault(record.experiment.name, record.experiment)
    experiments = {name: by_name[name] for name in names if name in by_name}
    labels = {}
    if shared_settings_in_brackets(names):
        labels = {name: strip_bracketed_settings(name) for name in names}
    return _make_comparison_records("", kept, experiments, labels)


def _make_comparison_records(
    name: str, records: Sequence[Record], experiments: dict[str, Experiment], labels: dict[str, str]
) -> ComparisonView:
    """Return the records, with the experiments compared with the first that was timed, else with the first."""
    timed = [record for record in records if isinstance(record.measured, Speed)]
    timed_names = {record.experiment_name for record in timed}
    timed_experiments = [name for name in experiments if name in timed_names]
    base = next(iter(timed_experiments or experiments), None)
    incomparable = reason_not_comparable(timed, may_differ=FIELDS)
    comparable_base = base if incomparable is None else None
    throughputs = summarize_throughputs(records, experiments, comparable_base)
    return ComparisonView(
        name, tuple(records), experiments, labels, base, incomparable, tuple(throughputs)
    )


def _unique_label_by_experiment(
    experiments: Iterable[Experiment], records: Sequence[Record]
) -> dict[str, str]:
    """Name an experiment by its method where no other experiment has the same method, else by its own name.

    Records hold the title of a method that is not loaded.
    """
    titles = {}
    for experiment in experiments:
        text = find_method_text(experiment.method, records)
        title = text.title if text else experiment.method
        titles[experiment.name] = VARIANTS.get(experiment.name.partition("-")[0], title)
    counts = Counter(titles.values())
    labels = {}
    for name, title in titles.items():
        labels[name] = title if counts[title] == 1 else name
    return labels
