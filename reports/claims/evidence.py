"""Records -> what they say about a claim's pairs of experiments."""

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import msgspec
import numpy as np

from bench.claims.claims import Pair, PaperClaim
from bench.config import BATCH_SIZE_FIELDS, Experiment, differing_fields
from bench.environment.circumstances import summarize_machine
from bench.explain.decomposition import Decomposition, LogRatio, decompose
from bench.explain.tables import strip_settings
from bench.ladder import PACE_FIELDS
from bench.measure.summary import throughputs_of
from bench.record import BatchTrial, Record, Speed, Transfer
from bench.statistics import Answers, Interval, estimate_paired_over_seeds
from bench.transfer.score_tables import answers_of
from reports.render.formats import pluralize
from reports.render.frames import experiment_name, group_by, reason_incomparable

PERCENT = 100
# Fields in which runs may differ from a recipe that they stand for: data, duration, and captions of other processes.
MAY_DIFFER = {*PACE_FIELDS, "images", "warmup_images", "seed", "data", "subset", "caption_lengths", "workers"}
MAY_DIFFER |= {"synset_vocabulary", "simulated_global_batch"}


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
    processes: int
    digest: str  # of the records
    repetitions: str  # in words: "5 runs each"
    changed_settings: str  # settings in which the runs differ from the claim's experiments; empty: none
    is_disturbed: bool = False  # other work on the machine may have changed the ratio
    has_own_sizes: bool = True  # the two experiments have the image sizes of the claim's
    ladder_parts: Sequence[tuple[str, Interval]] = ()  # of a ladder, whole steps
    objective_effect: Interval | None = None  # of a ladder: the method with all else as at its end


def find_pair(claim: PaperClaim, pair: Pair, records: Iterable[Record]) -> PairEvidence | None:
    """Return the evidence on a pair; None without any.

    Runs with other towers than the claim's are no evidence on it. Of several comparisons that of a GPU is preferred,
    then that with the recipe's settings, a ladder, the newest.
    """
    towers = {(one.tower, one.text_tower) for one in claim.experiments_of(pair)}
    own = [one for one in records if one.experiment and (one.experiment.tower, one.experiment.text_tower) in towers]
    by_comparison = group_by(own, lambda record: record.comparison)
    find = {"cost": _speed_evidence, "largest batch": _batch_evidence, "accuracy": _accuracy_evidence}
    if (evidence_of := find.get(claim.metric)) is None:
        return None
    if claim.metric == "accuracy":  # towers of several comparisons are one population
        by_comparison = {"": [record for rows in by_comparison.values() for record in rows]}
    found = [one for rows in by_comparison.values() if (one := evidence_of(claim, pair, rows)) is not None]
    return max(
        found,
        key=lambda one: (one.is_gpu, not one.changed_settings, bool(one.ladder_parts), one.comparison),
        default=None,
    )


def records_of_claim(claim: PaperClaim, records: Iterable[Record]) -> list[Record]:
    """Return the records of experiments of the claim, also with other settings."""
    names = (*claim.experiments, *(claim.controlled or ()))
    return [one for one in records if one.experiment is not None and one.experiment.name.startswith(names)]


def digest_of(records: Iterable[Record]) -> str:
    """Return the first 12 digits of the SHA-256 of records; their order does not matter."""
    encoded = sorted(msgspec.json.encode(record, order="deterministic") for record in records)
    return hashlib.sha256(b"\n".join(encoded)).hexdigest()[:12]


def _speed_evidence(claim: PaperClaim, pair: Pair, records: Sequence[Record]) -> PairEvidence | None:
    if (ladder := decompose(records)) is not None:
        return _ladder_evidence(claim, pair, records, ladder)
    own = _timed_runs(pair, records)
    if own is None or reason_incomparable(own):
        return None
    baseline, experiment = (one.name for one in _first_of_each(own, pair))
    ratio = throughputs_of(own, [baseline, experiment], baseline)[1].ratio
    if ratio is None:
        return None
    found, runs = _log_interval(ratio.value, ratio.low, ratio.high), f"{pluralize(min(ratio.runs), 'run')} each"
    return replace(_make_evidence(claim, pair, own, found, runs), is_disturbed=ratio.verdict == "disturbed")


def _ladder_evidence(
    claim: PaperClaim, pair: Pair, records: Sequence[Record], found: Decomposition
) -> PairEvidence | None:
    whole, rounds = found.whole.step, found.rounds
    if whole is None or (strip_settings(found.baseline), strip_settings(found.experiment)) != pair:
        return None
    ends = (found.baseline, found.experiment)
    own = [one for one in records if isinstance(one.measured, Speed)]
    ends_first = sorted(own, key=lambda one: experiment_name(one) not in ends)
    repetitions = f"{rounds[1]} rounds of the pair, {rounds[0]} of its parts"
    return replace(
        _make_evidence(claim, pair, ends_first, _interval_of(whole), repetitions),
        is_disturbed=not found.disturbance.allows_verdicts,
        ladder_parts=[
            (part.cause, _interval_of(part.step))
            for part in (*found.parts, found.waiting)
            if part is not None and part.step is not None
        ],
        objective_effect=_interval_of(found.objective.step) if found.objective and found.objective.step else None,
    )


def _batch_evidence(claim: PaperClaim, pair: Pair, records: Sequence[Record]) -> PairEvidence | None:
    """Compare the largest batches that fit under the largest common limit; the trials leave open an interval."""
    trials = [
        (record, record.experiment.batch_size, record.measured)
        for record in records
        if isinstance(record.measured, BatchTrial) and record.experiment is not None and _base_name(record) in pair
    ]
    limits = set.intersection(*({one.limit_bytes for row, _, one in trials if _base_name(row) == of} for of in pair))
    own = [trial for trial in trials if trial[2].limit_bytes == max(limits, default=None)]
    if not own or reason_incomparable([record for record, _, _ in own]):
        return None
    bounds = []
    for name in pair:
        sizes = [(size, one.fits) for record, size, one in own if _base_name(record) == name]
        largest = max((size for size, fits in sizes if fits), default=None)
        smallest = min((size for size, fits in sizes if not fits), default=None)
        if largest is None or smallest is None:
            return None
        bounds.append((largest, smallest))
    (base_fits, base_fails), (fits, fails) = bounds
    found = _log_interval(fits / base_fits, fits / base_fails, fails / base_fits)
    return _make_evidence(claim, pair, [record for record, _, _ in own], found, "the bounds that trials leave")


def _accuracy_evidence(claim: PaperClaim, pair: Pair, records: Sequence[Record]) -> PairEvidence | None:
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
    own = {id(record): record for rows in scored for seed, _, record in rows if seed in common}
    return _make_evidence(claim, pair, [*own.values()], found, pluralize(len(common), "seed"))


def _scored_seeds(
    claim: PaperClaim, name: str, protocol: str, records: Iterable[Record]
) -> Iterator[tuple[int, Answers, Record]]:
    """Yield the seed of each tower that the claim's task and protocol scored, its answers by test image, its record.

    Answers are means over draws of the labels. Towers with more images of training come later.
    """
    towers = [
        (record.measured.images, record.experiment.seed, record.measured.scores, record)
        for record in records
        if isinstance(record.measured, Transfer) and record.experiment is not None
        if _base_name(record) == name and record.measured.subject == record.experiment.name
    ]
    for _, seed, scores, record in sorted(towers, key=lambda tower: tower[:2]):
        draws = [
            answers_of(one)
            for one in scores
            if (one.task, one.protocol, one.label_share) == (claim.task, protocol, claim.label_share)
        ]
        if draws:
            yield seed, np.mean(draws, axis=0), record


def _timed_runs(pair: Pair, records: Sequence[Record]) -> list[Record] | None:
    """Return the timed runs of both experiments, of each with its own settings if there are any; None without both."""
    timed = [one for one in records if isinstance(one.measured, Speed)]
    names = [[experiment_name(one) for one in timed if _base_name(one) == name] for name in pair]
    chosen = [min(of, key=len, default="") for of in names]
    return [one for one in timed if experiment_name(one) in chosen] if all(chosen) else None


def _make_evidence(
    claim: PaperClaim, pair: Pair, records: Sequence[Record], effect: Interval, repetitions: str
) -> PairEvidence:
    """Return the evidence of records of the pair; the first of each experiment has its settings."""
    first, own_sizes, changed = records[0].circumstances, True, dict[str, None]()
    may_differ = MAY_DIFFER | ({*BATCH_SIZE_FIELDS} if claim.metric == "largest batch" else set())
    for recipe, run in zip(claim.experiments_of(pair), _first_of_each(records, pair), strict=True):
        differing = differing_fields([recipe, run]).keys() - may_differ
        own_sizes = own_sizes and "image_sizes" not in differing
        changed |= {f"{one} ({getattr(run, one)}, recipe {getattr(recipe, one)})": None for one in sorted(differing)}
    return PairEvidence(
        effect=effect,
        comparison=records[0].comparison,
        machine=first.machine_and_gpu,
        fingerprint=summarize_machine(first),
        is_gpu=first.device == "cuda",
        processes=first.processes,
        digest=digest_of(records),
        repetitions=repetitions,
        changed_settings="; ".join(changed),
        has_own_sizes=own_sizes,
    )


def _first_of_each(records: Sequence[Record], pair: Pair) -> tuple[Experiment, Experiment]:
    by_name = {_base_name(one): one.experiment for one in reversed(records) if one.experiment is not None}
    return by_name[pair[0]], by_name[pair[1]]


def _base_name(record: Record) -> str:
    return strip_settings(experiment_name(record))


def _log_interval(value: float, low: float | None, high: float | None) -> Interval:
    bounds = (-math.inf, math.inf) if low is None or high is None else (math.log(low), math.log(high))
    return Interval(math.log(value), *bounds)


def _interval_of(found: LogRatio) -> Interval:
    margin = math.inf if found.margin is None else found.margin
    return Interval(found.mean, found.mean - margin, found.mean + margin)
