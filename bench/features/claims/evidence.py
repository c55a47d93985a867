"""Records -> what they say about a claim's pairs of experiments."""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import msgspec
import numpy as np

from bench.environment.circumstances import summarize_machine
from bench.experiment.recipes import AS_RELEASED
from bench.experiment.settings import strip_settings
from bench.features.claims.claims import Pair, PaperClaim, get_claim
from bench.features.claims.conditions import (
    unmet_baseline_conditions,
    unmet_conditions,
    unmet_task_conditions,
    unmet_training_conditions,
)
from bench.interfaces.hooks import RatioPart, RatioParts, find_hook
from bench.measure.comparison_records import reason_incomparable
from bench.measure.summary import throughputs_of
from bench.records.record import AuthorsRun, BatchTrial, Record, Speed, Training, Transfer
from bench.records.record_kind import RecordKind
from bench.records.scores import Score
from bench.statistics.accuracies import Answers, estimate_paired_over_seeds
from bench.statistics.intervals import Interval
from bench.statistics.ratios import ratio_of
from bench.tables.formats import pluralize
from bench.transfer.subject_scores import correct_per_item
from reports.render.frames import group_by

PERCENT = 100


@dataclass(frozen=True, slots=True)
class PairEvidence:
    """What the records of one comparison say about two experiments.

    Values are on the additive scale of `PaperClaim.quantity`: logarithms of ratios of images per second or of batch
    sizes, experiment over baseline, or points of accuracy.
    """

    effect: Interval  # without ends where there are too few runs
    comparison: str
    machine: str
    fingerprint: str  # machine and software
    is_gpu: bool
    processes: tuple[int, int]  # of the two experiments
    digest: str  # of the records
    repetitions: str  # in words: "5 runs each"
    missed: tuple[str, ...]  # conditions of the claim that the records miss; evidence decides only without any
    code: str = ""  # of the authors, that was timed; empty: this project's
    parts: Sequence[RatioPart] = ()  # of the effect
    method_effect: Interval | None = None  # of the method alone, where the parts were measured


def find_evidence(claim: PaperClaim, pair: Pair, records: Iterable[Record]) -> list[PairEvidence]:
    """Return the evidence on a pair, the strongest first.

    Runs with other towers than the claim's are no evidence on it. Evidence that meets the conditions of the claim comes
    before other evidence, then the authors' code, runs on a GPU, a ratio in parts, the newest.
    """
    towers = {(one.image.tower, one.text.text_tower) for one in claim.experiments_of(pair)}
    own = [
        one
        for one in records
        if one.experiment and (one.experiment.image.tower, one.experiment.text.text_tower) in towers
    ]
    if claim.conditions is None:
        return []
    if claim.metric == "accuracy":  # towers of several comparisons are one population
        found = _accuracy_evidence(claim, pair, own)
    else:
        kinds = (_speed_evidence, _released_evidence) if claim.metric == "cost" else (_batch_evidence,)
        by_comparison = group_by(own, lambda record: record.comparison).values()
        found = [one for kind in kinds for rows in by_comparison if (one := kind(claim, pair, rows)) is not None]
    return sorted(
        found,
        key=lambda one: (not one.missed, bool(one.code), one.is_gpu, bool(one.parts), one.comparison),
        reverse=True,
    )


def records_of_claims(names: Iterable[str], records: Iterable[Record]) -> list[Record]:
    """Return the records of experiments of claims, also with other settings, and those of races with other code."""
    claims = [get_claim(name) for name in names]
    experiments = tuple(one for claim in claims for one in (*claim.experiments, *(claim.controlled or ())))
    return [
        one
        for one in records
        if one.experiment is not None
        and (
            one.experiment.name.startswith(experiments)
            or (isinstance(one.measured, RecordKind) and one.measured.is_code_comparison)
        )
    ]


def digest_of(records: Iterable[Record]) -> str:
    """Return the first 12 digits of the SHA-256 of records; their order does not matter."""
    encoded = sorted(msgspec.json.encode(record, order="deterministic") for record in records)
    return hashlib.sha256(b"\n".join(encoded)).hexdigest()[:12]


def _speed_evidence(claim: PaperClaim, pair: Pair, records: Sequence[Record]) -> PairEvidence | None:
    find_parts = find_hook("ratio_parts")
    if find_parts is not None and (parts := find_parts(records)) is not None:
        return _evidence_in_parts(claim, pair, records, parts)
    own = _timed_runs(pair, records)
    if own is None or reason_incomparable(own):
        return None
    by_name = {_recipe_name(one): one.experiment_name for one in own}
    baseline, experiment = by_name[pair[0]], by_name[pair[1]]
    ratio = throughputs_of(own, [baseline, experiment], baseline)[1].ratio
    if ratio is None:
        return None
    found, runs = _log_interval(ratio.value, ratio.low, ratio.high), f"{pluralize(min(ratio.runs), 'run')} each"
    missed = _unmet_by_records(claim, pair, own)
    return _make_evidence(pair, own, found, runs, missed)


def _released_evidence(claim: PaperClaim, pair: Pair, records: Sequence[Record]) -> PairEvidence | None:
    """Compare runs of the authors' code, each with the file of its experiment, which are of the published pair."""
    if pair != claim.experiments:
        return None
    own = [one for one in records if isinstance(one.measured, AuthorsRun) and not one.measured.has_other_tower]
    runs: tuple[dict[int, float], dict[int, float]] = ({}, {})
    for record in own:
        if isinstance(run := record.measured, AuthorsRun) and _recipe_name(record) in pair:
            runs[pair.index(_recipe_name(record))][run.round] = run.images_per_second
    if not all(runs) or reason_incomparable(own):
        return None
    ratio = ratio_of(*runs)
    found = _log_interval(ratio.value, ratio.low, ratio.high)
    repetitions = f"{pluralize(min(map(len, runs)), 'run')} each"
    measured = (one.measured for one in own)
    sources = {f"{one.repository} at {one.commit[:7]}" for one in measured if isinstance(one, AuthorsRun)}
    evidence = _make_evidence(pair, own, found, repetitions, _unmet_by_records(claim, pair, own))
    return replace(evidence, code=" and ".join(sorted(sources)))


def _evidence_in_parts(
    claim: PaperClaim, pair: Pair, records: Sequence[Record], found: RatioParts
) -> PairEvidence | None:
    ends = (found.baseline, found.experiment)
    if found.whole is None or tuple(map(strip_settings, ends)) != pair:
        return None
    own = [one for one in records if isinstance(one.measured, Speed)]
    of_ends = [one for one in own if one.experiment_name in ends]
    missed = _unmet_by_records(claim, pair, of_ends)
    evidence = _make_evidence(pair, of_ends, found.whole, found.repetitions, missed)
    return replace(evidence, digest=digest_of(own), parts=found.parts, method_effect=found.method)


def _batch_evidence(claim: PaperClaim, pair: Pair, records: Sequence[Record]) -> PairEvidence | None:
    """Compare the largest batches that fit under the largest common limit; the trials leave open an interval."""
    trials = [
        (record, record.experiment.training.batch_size, record.measured)
        for record in records
        if isinstance(record.measured, BatchTrial) and record.experiment is not None and _recipe_name(record) in pair
    ]
    limits = set.intersection(*({one.limit_bytes for row, _, one in trials if _recipe_name(row) == of} for of in pair))
    own = [trial for trial in trials if trial[2].limit_bytes == max(limits, default=None)]
    if not own or reason_incomparable([record for record, _, _ in own]):
        return None
    bounds = []
    for name in pair:
        sizes = [(size, one.fits) for record, size, one in own if _recipe_name(record) == name]
        largest = max((size for size, fits in sizes if fits), default=None)
        smallest = min((size for size, fits in sizes if not fits), default=None)
        if largest is None or smallest is None:
            return None
        bounds.append((largest, smallest))
    (base_fits, base_fails), (fits, fails) = bounds
    found = _log_interval(fits / base_fits, fits / base_fails, fails / base_fits)
    compared = [record for record, _, _ in own]
    missed = _unmet_by_records(claim, pair, compared)
    return _make_evidence(pair, compared, found, "the bounds that trials leave", missed)


def _accuracy_evidence(claim: PaperClaim, pair: Pair, records: Sequence[Record]) -> list[PairEvidence]:
    """Compare the towers that meet the conditions, then the others."""
    trainings = [one for one in records if isinstance(one.measured, Training)]
    scored = [one for one in records if isinstance(one.measured, Transfer) and _recipe_name(one) in pair]
    recipes = dict(zip(pair, claim.experiments_of(pair), strict=True))
    missed = {
        id(one): [
            *unmet_conditions(claim, recipes[_recipe_name(one)], one),
            *unmet_training_conditions(
                claim, recipes[_recipe_name(one)], pair.index(_recipe_name(one)), one, trainings
            ),
            *unmet_task_conditions(
                claim, [score for protocol in claim.protocols for score in _scores_of(claim, protocol, one)]
            ),
        ]
        for one in scored
    }
    meeting = _compare_towers(claim, pair, [one for one in scored if not missed[id(one)]], {})
    if meeting is None:
        others = _compare_towers(claim, pair, scored, missed)
    else:
        others = _compare_towers(claim, pair, [one for one in scored if missed[id(one)]], missed)
    return [one for one in (meeting, others) if one is not None]


def _compare_towers(
    claim: PaperClaim, pair: Pair, records: Sequence[Record], missed: Mapping[int, list[str]]
) -> PairEvidence | None:
    """Compare accuracies of towers of equal seeds, as points; five common seeds or more give an interval."""
    scored = [
        [*_scored_seeds(claim, name, protocol, records)] for name, protocol in zip(pair, claim.protocols, strict=True)
    ]
    baseline, experiment = ({seed: answers for seed, answers, _ in rows} for rows in scored)
    common = baseline.keys() & experiment.keys()
    if not common:
        return None
    gain = fmean(float(np.mean(experiment[seed]) - np.mean(baseline[seed])) for seed in common)
    estimate = estimate_paired_over_seeds(baseline, experiment)
    low, high = (None, None) if estimate is None else (estimate.low, estimate.high)
    bounds = (-math.inf, math.inf) if low is None or high is None else (low, high)
    found = Interval(*(PERCENT * one for one in (gain, *bounds)))
    own = [*{id(one): one for rows in scored for seed, _, one in rows if seed in common}.values()]
    reached = PERCENT * fmean(float(np.mean(baseline[seed])) for seed in common)
    texts = [*(text for one in own for text in missed.get(id(one), ())), *unmet_baseline_conditions(claim, reached)]
    return _make_evidence(pair, own, found, pluralize(len(common), "seed"), texts)


def _scored_seeds(
    claim: PaperClaim, name: str, protocol: str, records: Iterable[Record]
) -> Iterator[tuple[int, Answers, Record]]:
    """Yield the seed of each tower that the claim's task and protocol scored, its answers by test image, its record.

    Answers are means over draws of the labels. Towers with more images of training come later.
    """
    towers = [
        (record.measured.images, record.experiment.seed, record)
        for record in records
        if isinstance(record.measured, Transfer) and record.experiment is not None
        if _recipe_name(record) == name and record.measured.subject == record.experiment.name
    ]
    for _, seed, record in sorted(towers, key=lambda tower: tower[:2]):
        if draws := [correct_per_item(one) for one in _scores_of(claim, protocol, record)]:
            yield seed, np.mean(draws, axis=0), record


def _scores_of(claim: PaperClaim, protocol: str, record: Record) -> list[Score]:
    asked = (claim.task, protocol, claim.label_share)
    scores = record.measured.scores if isinstance(record.measured, Transfer) else ()
    return [one for one in scores if (one.task, one.protocol, one.label_share) == asked]


def _timed_runs(pair: Pair, records: Sequence[Record]) -> list[Record] | None:
    """Return the timed runs of both experiments, of each with its own settings if there are any; None without both."""
    timed = [one for one in records if isinstance(one.measured, Speed)]
    names = [[one.experiment_name for one in timed if _recipe_name(one) == name] for name in pair]
    chosen = [min(of, key=len, default="") for of in names]
    return [one for one in timed if one.experiment_name in chosen] if all(chosen) else None


def _unmet_by_records(claim: PaperClaim, pair: Pair, records: Iterable[Record]) -> list[str]:
    """Return the conditions of a claim that any of the records of a pair misses."""
    recipes = dict(zip(pair, claim.experiments_of(pair), strict=True))
    of_pair = [one for one in records if _recipe_name(one) in recipes]
    return [text for one in of_pair for text in unmet_conditions(claim, recipes[_recipe_name(one)], one)]


def _make_evidence(
    pair: Pair, records: Sequence[Record], effect: Interval, repetitions: str, missed: Iterable[str]
) -> PairEvidence:
    first = records[0].circumstances
    baseline, experiment = (
        max(one.circumstances.processes for one in records if _recipe_name(one) == name) for name in pair
    )
    return PairEvidence(
        effect=effect,
        comparison=records[0].comparison,
        machine=first.machine_and_gpu,
        fingerprint=summarize_machine(first),
        is_gpu=first.device == "cuda",
        processes=(baseline, experiment),
        digest=digest_of(records),
        repetitions=repetitions,
        missed=tuple(dict.fromkeys(missed)),
    )


def _recipe_name(record: Record) -> str:
    return strip_settings(record.experiment_name).removesuffix(AS_RELEASED)


def _log_interval(value: float, low: float | None, high: float | None) -> Interval:
    bounds = (-math.inf, math.inf) if low is None or high is None else (math.log(low), math.log(high))
    return Interval(math.log(value), *bounds)
