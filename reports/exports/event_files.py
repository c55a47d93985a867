"""Scalars as event files for TensorBoard, which the extra `tensorboard` brings; without torch."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.environment.files import written_whole
from reports.exports.scalars import Scalars

EVENTS = "events.out.tfevents.0"  # TensorBoard finds a run by such a name
VERSION = "brain.Event:2"  # of the file's format


def write_event_files(found: Sequence[Scalars], out: Path) -> None:
    """Write OUT/COMPARISON/SUBJECT.seedN for each; a step is an image seen. Same records, same bytes.

    Raises ValueError where tensorboard is not installed.
    """
    if find_spec("tensorboard") is None:
        raise ValueError("--format tensorboard needs a package: python -m pip install -e '.[tensorboard]'")
    from tensorboard.summary.writer.record_writer import RecordWriter

    for one in found:
        with written_whole(out / one.folder / EVENTS) as temporary, temporary.open("wb") as file:
            writer = RecordWriter(file)
            for event in _events(one):
                writer.write(event.SerializeToString())


def _events(one: Scalars) -> Iterator[Any]:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    began = datetime.fromisoformat(one.began_at).timestamp()
    yield Event(wall_time=began, file_version=VERSION)
    for point in one.points:
        value = Summary.Value(tag=point.name, simple_value=point.value)
        yield Event(wall_time=began, step=point.images, summary=Summary(value=[value]))
