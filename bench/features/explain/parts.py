"""The parts of a ratio that records of a ladder give, for claims."""

import math
from collections.abc import Iterable

from bench.features.explain.decomposition import LogRatio, decompose
from bench.features.explain.ladder import HEAD, TEXT_TOWER
from bench.hooks import RatioPart, RatioParts
from bench.record import Record
from bench.statistics import MAX_SLOWNESS, Interval


def ratio_parts(records: Iterable[Record]) -> RatioParts | None:
    """Return the parts of the ladder in the records, over whole steps; None without a ladder."""
    found = decompose(records)
    if found is None:
        return None
    rounds_of_parts, rounds_of_pair = found.rounds
    return RatioParts(
        baseline=found.baseline,
        experiment=found.experiment,
        whole=_interval_of(found.whole.step) if found.whole.step else None,
        parts=[
            RatioPart(part.cause, _interval_of(part.step), part.cause in (TEXT_TOWER, HEAD))
            for part in (*found.parts, found.waiting)
            if part is not None and part.step is not None
        ],
        method=_interval_of(found.method.step) if found.method and found.method.step else None,
        repetitions=f"{rounds_of_pair} rounds of the pair, {rounds_of_parts} of its parts",
        is_disturbed=found.step_unexplained is not None and found.step_unexplained.slowness > MAX_SLOWNESS,
    )


def _interval_of(found: LogRatio) -> Interval:
    margin = math.inf if found.margin is None else found.margin
    return Interval(found.mean, found.mean - margin, found.mean + margin)
