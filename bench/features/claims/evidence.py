"""Records -> evidence on a claim: the runs of two experiments, or the scores of two towers, with their difference."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from bench.environment.circumstances import summarize_machine
from bench.experiment.recipes import AS_RELEASED
from bench.experiment.settings import strip_settings
from bench.measure.comparison_records import reason_incomparable
from bench.measure.summary import throughputs_of
from bench.records.record import AuthorsRun, Record, Speed, Transfer
from bench.records.scores import Score
from bench.statistics.intervals import Interval, mean_interval
from bench.statistics.ratios import Ratio, ratio_of
from bench.tables.formats import pluralize
from bench.transfer.subject_scores import correct_per_item
from reports.render.frames import group_by

PERCENT = 100
OUR_CODE = "this project's code"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What records say about the baseline and the other side of a claim."""

    comparison: str
    code: str  # repository and commit of the timed code; empty for towers
    baseline: Sequence[Record]
    experiment: Sequence[Record]
    effect: Interval  # log of the ratio of images/s, or points of accuracy; infinite ends without an interval
    repetition: str  # in words: "5 runs each"
    ratio: Ratio | None = None  # of images/s; None for towers

    @property
    def records(self) -> list[Record]:
        """The records of both sides."""
        return [*self.baseline, *self.experiment]

    @property
    def machine(self) -> str:
        """The machine and software of the first run."""
        return summarize_machine(self.baseline[0].circumstances)

    @property
    def digest(self) -> str:
        """The first 12 digits of the SHA-256 of the records, in any order."""
        encoded = sorted(
            msgspec.json.encode(record, order="deterministic") for record in self.records
        )
        return hashlib.sha256(b"\n".join(encoded)).hexdigest()[:12]


def find_speed_evidence(
    baseline: str, experiment: str, records: Sequence[Record]
) -> list[Evidence]:
    """Return the evidence of each comparison that timed both experiments on one machine with equal software.

    Runs of the authors' code and of this project's code are evidence of their own.
    """
    evidence = []
    for rows in group_by(records, lambda record: record.comparison).values():
        for kind in (AuthorsRun, Speed):
            sides = _runs_by_side((baseline, experiment), rows, kind)
            if all(sides) and reason_incomparable([*sides[0], *sides[1]]) is None:
                evidence.append(_compare_speeds(*sides))
    return [one for one in evidence if one is not None]


def find_accuracy_evidence(
    baseline: str, experiment: str, scored: str, records: Sequence[Record]
) -> list[Evidence]:
    """Return the evidence of the newest scores of two towers; `scored` is "TASK, PROTOCOL".

    The interval is over the test images: it holds for these two towers.
    """
    answers = {}
    for record in sorted(records, key=lambda record: record.circumstances.started_at):
        for score in scores_of(record, scored):
            answers[subject_of(record)] = (record, score)
    if baseline not in answers or experiment not in answers:
        return []
    (base_record, base_score), (other_record, other_score) = answers[baseline], answers[experiment]
    if len(base_score.correct) != len(other_score.correct):
        return []
    points = mean_interval(
        (PERCENT * (correct_per_item(other_score) - correct_per_item(base_score))).tolist()
    )
    repetition = f"one training of each, {len(base_score.correct):,} test images"
    return [
        Evidence(other_record.comparison, "", [base_record], [other_record], points, repetition)
    ]


def subject_of(record: Record) -> str:
    """Return the name of the scored tower; empty for other records."""
    return record.measured.subject if isinstance(record.measured, Transfer) else ""


def scores_of(record: Record, scored: str) -> list[Score]:
    """Return the scores of a record of a tower on a whole task; `scored` is "TASK, PROTOCOL"."""
    if not isinstance(record.measured, Transfer):
        return []
    return [
        score
        for score in record.measured.scores
        if f"{score.task}, {score.protocol}" == scored
        and score.label_share is None
        and score.per_class is None
    ]


def _runs_by_side(
    names: tuple[str, str], records: Sequence[Record], kind: type[AuthorsRun] | type[Speed]
) -> tuple[list[Record], list[Record]]:
    """Return the runs of both experiments with any settings, without runs of another tower."""
    sides: tuple[list[Record], list[Record]] = ([], [])
    for record in records:
        name = strip_settings(record.experiment_name).removesuffix(AS_RELEASED)
        has_other_tower = (
            isinstance(record.measured, AuthorsRun) and record.measured.has_other_tower
        )
        if isinstance(record.measured, kind) and name in names and not has_other_tower:
            sides[names.index(name)].append(record)
    return sides


def _compare_speeds(baseline: Sequence[Record], experiment: Sequence[Record]) -> Evidence | None:
    first = baseline[0].measured
    if isinstance(first, AuthorsRun):
        code = f"{first.repository} at {first.commit[:7]}"
        ratio: Ratio | None = ratio_of(_rates_by_round(baseline), _rates_by_round(experiment))
    else:
        code = OUR_CODE
        names = [baseline[0].experiment_name, experiment[0].experiment_name]
        ratio = throughputs_of([*baseline, *experiment], names, names[0])[1].ratio
    if ratio is None:
        return None
    effect = Interval(math.log(ratio.value), -math.inf, math.inf)
    if ratio.low is not None and ratio.high is not None:
        effect = Interval(math.log(ratio.value), math.log(ratio.low), math.log(ratio.high))
    repetition = f"{pluralize(min(ratio.runs), 'run')} each"
    return Evidence(baseline[0].comparison, code, baseline, experiment, effect, repetition, ratio)


def _rates_by_round(records: Sequence[Record]) -> dict[int, float]:
    runs = [record.measured for record in records if isinstance(record.measured, AuthorsRun)]
    return {run.round: run.images_per_second for run in runs}
