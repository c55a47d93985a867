"""Records -> the experiments of one comparison, with their labels, base and speeds. No torch here."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from bench.experiment.config import (
    FIELDS,
    MAY_DIFFER,
    Experiment,
    differing_fields,
    fields_with,
    get_field,
)
from bench.interfaces.method import METHODS, method_text
from bench.interfaces.sections import ComparisonRecords
from bench.measure.summary import throughputs_of
from bench.measure.throughput import require_comparable
from bench.records.record import Record, Speed

UNTIMED = "its speed was not measured"  # the reason of an absent figure
# CLIP with other settings, by the first word of the experiment's name.
VARIANTS = {
    "flip": "FLIP",
    "clipa": "CLIPA",
}


def group_comparison(name: str, records: Sequence[Record]) -> ComparisonRecords:
    """Collect the experiments of one comparison in the order of their methods, and choose their labels and base."""
    found = [
        one
        for record in records
        if (one := record.experiment) is not None
        and getattr(record.measured, "subject", one.name)
        == one.name  # not the random-init baseline of its tower
    ]
    order = [*METHODS, *sorted({one.method for one in found} - METHODS.keys())]
    experiments = _first_by_name(
        sorted(found, key=lambda one: (order.index(one.method), one.name, one.seed))
    )
    return _compare(name, records, experiments, _unique_labels(experiments, records))


def group_named(
    records: Sequence[Record], names: Collection[str], may_differ: Iterable[str] = MAY_DIFFER
) -> ComparisonRecords:
    """Collect the experiments of these names in their order, under their names; the first that was timed is the base.

    Raises ValueError if the timed runs differ in more than the fields that `may_differ`, machines included.
    """
    kept = [record for record in records if record.experiment_name in names]
    require_comparable(
        [record for record in kept if isinstance(record.measured, Speed)], may_differ=may_differ
    )
    found = _first_by_name(record.experiment for record in kept if record.experiment is not None)
    return _compare("", kept, {name: found[name] for name in names if name in found}, {})


def method_title(experiment: Experiment, records: Sequence[Record]) -> str:
    """Return the name of an experiment's method in its paper, which records hold of a method that is not loaded."""
    variant = VARIANTS.get(experiment.name.partition("-")[0])
    if variant:
        return variant
    text = method_text(experiment, records)
    return experiment.method if text is None else text.title


def reason_incomparable(records: Sequence[Record]) -> str | None:
    """Return the reason why these runs are not comparable: other machines or versions; settings may differ."""
    try:
        require_comparable(records, may_differ=FIELDS)
    except ValueError as error:
        return str(error)
    return None


def _first_by_name(experiments: Iterable[Experiment]) -> dict[str, Experiment]:
    found: dict[str, Experiment] = {}
    for experiment in experiments:
        found.setdefault(experiment.name, experiment)
    return found


def _compare(
    name: str, records: Sequence[Record], experiments: dict[str, Experiment], labels: dict[str, str]
) -> ComparisonRecords:
    """Compare the experiments with the first that was timed, else with the first."""
    timed = [record for record in records if isinstance(record.measured, Speed)]
    names, incomparable = {record.experiment_name for record in timed}, reason_incomparable(timed)
    base = next((one for one in experiments if one in names), next(iter(experiments), None))
    throughputs = throughputs_of(records, experiments, base if incomparable is None else None)
    return ComparisonRecords(
        name, tuple(records), experiments, labels, base, incomparable, tuple(throughputs)
    )


def _unique_labels(experiments: dict[str, Experiment], records: Sequence[Record]) -> dict[str, str]:
    """Name an experiment by its method, and where others share it, also by its batch size or its own settings."""
    labels, by_title = dict[str, str](), dict[str, list[Experiment]]()
    for experiment in experiments.values():
        by_title.setdefault(method_title(experiment, records), []).append(experiment)
    for title, same in by_title.items():
        for experiment in same:
            if len(same) == 1:
                labels[experiment.name] = title
            elif {*differing_fields(same)} <= {*fields_with("by batch")}:
                labels[experiment.name] = f"{title} at batch {experiment.training.batch_size}"
            else:
                labels[experiment.name] = ", ".join(
                    [title, *_distinguishing_settings(experiment, same)]
                )
    counted = Counter(labels.values())
    return {name: label if counted[label] == 1 else name for name, label in labels.items()}


def _distinguishing_settings(
    experiment: Experiment, alternatives: Sequence[Experiment]
) -> list[str]:
    """Return the settings in which an experiment differs from most of the alternatives."""
    fields = [field for field in differing_fields(alternatives) if field != "name"]
    usual = {
        field: Counter(str(get_field(one, field)) for one in alternatives).most_common(1)[0][0]
        for field in fields
    }
    own = {field: str(get_field(experiment, field)) for field in fields}
    return [f"{field}={value}" for field, value in own.items() if value != usual[field]]
