"""Records -> curves of losses, speeds, memory and scores against images seen, as event files for TensorBoard."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from typing import Any

from bench.data.image_sizes import images_before_step
from bench.environment.files import atomic_write, read_intact_files, safe_file_name
from bench.experiment.config import Experiment
from bench.measure.observations import json_files, observations_of_record
from bench.measure.throughput import steps_per_window, window_rates
from bench.records.record import Memory, Record, Speed, Training, Transfer, is_record, read_record
from reports.render.frames import loss_curve_parts

EVENTS = "events.out.tfevents.0"  # the file name by which TensorBoard finds a run
VERSION = "brain.Event:2"  # of the file's format


@dataclass(frozen=True, slots=True, order=True)
class Scalar:
    """A point of a curve; the part of its name before the slash groups curves."""

    images: int  # images seen, by all processes together
    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Scalars:
    """The points of one subject with one seed in one comparison, in the order of images seen."""

    comparison: str
    subject: str
    experiment: Experiment | None  # None: the subject was not trained
    began_at: str  # UTC, ISO 8601
    points: tuple[Scalar, ...]

    @property
    def folder(self) -> Path:
        """The folder COMPARISON/SUBJECT.seedN, with unsafe characters of the names replaced."""
        seed = "" if self.experiment is None else f".seed{self.experiment.seed}"
        return Path(safe_file_name(self.comparison)) / f"{safe_file_name(self.subject.replace(' ', '-'))}{seed}"


def read_scalars(locations: Sequence[Path], damaged: list[str]) -> list[Scalars]:
    """Read records from files, and from folders recursively; append the errors of damaged ones to `damaged`.

    Raises ValueError where no record has a loss, a speed, a memory or a score.
    """
    paths = [path for location in locations for path in json_files(location) if is_record(path)]
    records, errors = read_intact_files(paths, read_record)
    if not (found := scalars_of(records)):
        text = "; ".join([", ".join(map(str, locations)), *errors[:1]])
        raise ValueError(f"{text}: no record of a training, a speed, a memory or a score; name a folder of records")
    damaged += errors
    return found


def scalars_of(records: Iterable[Record]) -> list[Scalars]:
    """Group the points by comparison, subject and seed, in this order."""
    groups: dict[tuple[str, str, int], list[Record]] = defaultdict(list)
    for record in records:
        if isinstance(record.measured, (Transfer, Training, Speed, Memory)):
            subject = getattr(record.measured, "subject", record.experiment_name)
            seed = -1 if record.experiment is None else record.experiment.seed
            groups[record.comparison, subject, seed].append(record)
    return [
        Scalars(
            comparison,
            subject,
            group[0].experiment,
            min(record.circumstances.started_at for record in group),
            tuple(sorted(point for record in group for point in _record_points(record))),
        )
        for (comparison, subject, _), group in sorted(groups.items())
    ]


def _record_points(record: Record) -> Iterator[Scalar]:
    experiment, measured, processes = record.experiment, record.measured, record.circumstances.processes
    match measured:
        case Transfer():
            yield from _score_points(measured)
        case Training() if experiment is not None:
            for part, losses in loss_curve_parts(experiment, measured, processes):
                yield from (Scalar(images, f"loss/{part}", loss) for images, loss in losses)
        case Speed() if experiment is not None:
            for number, rate in enumerate(window_rates(experiment, measured), 1):
                steps = experiment.timing.warmup_steps + number * steps_per_window(experiment, measured)
                seen = images_before_step(experiment, steps)
                yield Scalar(seen * processes, f"images per second/round {measured.round + 1}", rate)
        case Memory() if experiment is not None:
            seen = images_before_step(experiment, measured.steps) * processes
            for figure in observations_of_record(record):
                yield Scalar(seen, f"memory/{figure.metric.name}, bytes", figure.value)


def _score_points(transfer: Transfer) -> Iterator[Scalar]:
    """Yield the scores on whole tasks, averaged over draws; those with few labels have no curve."""
    values: dict[str, list[float]] = defaultdict(list)
    for score in transfer.scores:
        if score.per_class is None and score.label_share is None:
            share = score.accuracy
            values[f"accuracy/{score.task}, {score.protocol}"].append(share)
    for metric in transfer.metrics:
        if metric.per_class is None and metric.num_test:  # without test images it is a metric of class names
            values[f"{metric.name}/{metric.task}, {metric.protocol}"].append(metric.value)
    yield from (Scalar(transfer.images, name, fmean(found)) for name, found in values.items())


def write_event_files(found: Sequence[Scalars], out: Path) -> None:
    """Write OUT/COMPARISON/SUBJECT.seedN for each, with images seen as steps; equal records give equal bytes.

    Raises ValueError where tensorboard is not installed.
    """
    if find_spec("tensorboard") is None:
        raise ValueError("--format tensorboard needs a package: python -m pip install -e '.[tensorboard]'")
    from tensorboard.summary.writer.record_writer import RecordWriter

    for one in found:
        with atomic_write(out / one.folder / EVENTS) as temporary, temporary.open("wb") as file:
            writer = RecordWriter(file)
            for event in _events(one):
                writer.write(event.SerializeToString())


def _events(scalars: Scalars) -> Iterator[Any]:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    began = datetime.fromisoformat(scalars.began_at).timestamp()
    yield Event(wall_time=began, file_version=VERSION)
    for point in scalars.points:
        value = Summary.Value(tag=point.name, simple_value=point.value)
        yield Event(wall_time=began, step=point.images, summary=Summary(value=[value]))
