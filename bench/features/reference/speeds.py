"""Images per second of the sides of comparisons with other people's code, from records. No torch here."""

from collections.abc import Mapping, Sequence
from statistics import fmean, median

from bench.features.reference import OPEN_CLIP, OURS
from bench.features.reference.records import ReferenceRun
from bench.records.record import Record
from bench.statistics.ratios import ratio_of
from bench.tables.formats import format_bracketed_interval, format_ratio


def runs_by_experiment(records: Sequence[Record]) -> dict[str, dict[str, dict[int, tuple[float, ReferenceRun]]]]:
    """Return images per second and run by side and round, for each experiment."""
    runs: dict[str, dict[str, dict[int, tuple[float, ReferenceRun]]]] = {}
    for record in records:
        if isinstance(run := record.measured, ReferenceRun) and record.experiment is not None:
            rate = record.experiment.images_per_window / fmean(run.window_seconds)  # windows may differ in work
            runs.setdefault(record.experiment.name, {}).setdefault(run.side, {})[run.round] = (rate, run)
    return runs


def describe_clip_costs(records: Sequence[Record]) -> list[str]:
    """Say for each experiment that was raced with open_clip which side trains CLIP at the least cost, and where.

    Of several comparisons of an experiment the newest counts.
    """
    found = dict[str, str]()
    for comparison in sorted({record.comparison for record in records}):
        of_comparison = [record for record in records if record.comparison == comparison]
        for name, runs in runs_by_experiment(of_comparison).items():
            if OPEN_CLIP in runs:
                machine = next(
                    f"{one.circumstances.machine}, {one.circumstances.precision}, "
                    f"batch {one.experiment.training.batch_size}"
                    for one in of_comparison
                    if one.experiment is not None and one.experiment.name == name
                )
                rates = {side: {round_: rate for round_, (rate, _) in rounds.items()} for side, rounds in runs.items()}
                found[name] = f"{_describe_cheapest_side(name, rates)} Machine: {machine}."
    return [*found.values()]


def _describe_cheapest_side(name: str, rates: Mapping[str, Mapping[int, float]]) -> str:
    """Say which side trains CLIP at the least cost, and compare ours with the fastest of the others."""
    medians = {side: median(rounds.values()) for side, rounds in rates.items()}
    cheapest = max(medians, key=medians.__getitem__)
    text = f"{name}: CLIP costs the least with {cheapest}, {medians[cheapest]:.3g} images/s."
    if (ours := rates.get(OURS)) is None or len(rates) == 1:
        return text
    best = max(rates.keys() - {OURS}, key=medians.__getitem__)
    found = ratio_of(rates[best], ours)
    measured = f"{format_ratio(found.value)}{format_bracketed_interval(found, format_ratio)}"
    return f"{text} {OURS} over the fastest of the others, {best}: {measured}."
