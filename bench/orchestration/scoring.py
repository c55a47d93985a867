"""Runs that score towers and reference features, and their records. Only `score_and_record_missing` imports torch."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench.data.manifest import CACHE
from bench.experiment.config import Experiment
from bench.interfaces.catalog import (
    TowerOrFeaturesToScore,
    compatible_task_protocol_pairs,
)
from bench.interfaces.method import method_text_if_from_extension
from bench.orchestration.runs import FunctionRun
from bench.records.record import Record, record_path, write_record
from bench.tables.groups import group_by

if TYPE_CHECKING:
    import torch

FUNCTION = "bench.orchestration.scoring:score_and_record_missing"


class PlannedScore(NamedTuple):
    """A tower or features, the task and the protocol of a score, and the file that will hold it."""

    subject: TowerOrFeaturesToScore
    task: str
    protocol: str
    file: str  # path of the record


def make_scoring_run(
    results: Path,
    comparison: str,
    experiment: Experiment,
    subjects: Sequence[TowerOrFeaturesToScore],
    tasks: Sequence[str],
    protocols: Sequence[str],
    *,
    root: str = "",
) -> FunctionRun:
    """Return the run that scores subjects on the tasks by the protocols that are compatible with them.

    `root` is the folder of tasks that lie on disk.
    """
    planned_scores = []
    for subject in subjects:
        # Files of several folders may have one name, and random weights depend on the experiment.
        whole_name = f"{subject.title} {experiment.name} {experiment.seed}"
        digest = hashlib.sha256(whole_name.encode()).hexdigest()[:8]
        names = (Path(subject.title).name, digest)
        for task, protocol in compatible_task_protocol_pairs(subject.name, tasks, protocols):
            path = record_path(results, comparison, "transfer", *names, task, protocol)
            planned_scores.append(PlannedScore(subject, task, protocol, str(path)))
    return FunctionRun(
        function=FUNCTION,
        label=f"scoring of {len(subjects)} towers",
        results=str(results),
        comparison=comparison,
        experiment=experiment,
        files=tuple(scoring.file for scoring in planned_scores),
        arguments={"planned_scores": planned_scores, "root": root},
    )


def score_and_record_missing(
    experiment: Experiment,
    device: "torch.device",
    results: Path,
    comparison: str,
    planned_scores: tuple[PlannedScore, ...],
    root: str,
) -> None:
    """Record every score that is missing; a failed scoring does not stop the others, except out of memory."""
    from bench.records.current import collect_circumstances
    from bench.transfer.named_tasks import load_task
    from bench.transfer.score import append_error_of_block, open_extractor, score_task

    errors = list[str]()
    missing = [scoring for scoring in planned_scores if not Path(scoring.file).is_file()]
    for subject, planned_of_subject in group_by(missing, lambda scoring: scoring.subject).items():
        with append_error_of_block(errors, subject.title):
            extractor = open_extractor(
                subject.name, experiment, device, is_untrained=subject.is_untrained
            )
            for _, task, protocol, file in planned_of_subject:
                with append_error_of_block(errors, f"{subject.title}, {protocol} on {task}"):
                    circumstances = collect_circumstances(None, device)  # before the scoring
                    loaded = load_task(task, results, root)
                    measured = score_task(extractor, loaded, protocol, results / CACHE)
                    record = Record(
                        comparison=comparison,
                        experiment=extractor.experiment,
                        circumstances=circumstances,
                        measured=measured,
                        method=method_text_if_from_extension(extractor.experiment),
                    )
                    write_record(record, Path(file))
    if errors:
        raise RuntimeError("; ".join(errors))
