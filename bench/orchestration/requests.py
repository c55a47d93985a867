"""The kinds of runs that a child process executes: the fields, files and work of each. Only the work imports torch."""

import hashlib
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from bench.console.console import StopRequest
from bench.environment.rank_info import torchrun_env
from bench.interfaces.catalog import (
    DEFAULT_TASKS,
    RANDOM_INIT,
    ScoringSubject,
    compatible_tasks_and_protocols,
    default_protocols,
)
from bench.interfaces.measurement import get_measurement
from bench.interfaces.method import added_method_text
from bench.orchestration.request_base import ExperimentRequest, Request
from bench.records.record import Failure, Figures, Record, Speed, read_record, write_record
from bench.records.record_kind import RecordContent, tag_of
from bench.train.checkpoints import CheckpointConfig, exclusive_lock

if TYPE_CHECKING:
    import torch

    from bench.environment.circumstances import Circumstances
    from bench.records.record import Flops


class SpeedRequest(ExperimentRequest, frozen=True, kw_only=True, tag="speed"):
    """Time windows of steps."""

    runs_on_all_ranks = True
    round: int = 0

    def name_parts(self) -> tuple[str, ...]:
        return (*super().name_parts(), f"round{self.round:02}")

    def measure(self, device: "torch.device", _stop: StopRequest | None) -> RecordContent:
        from bench.measure.heating import HEATING_SECONDS
        from bench.measure.speed import measure_speed

        known = None if device.type in HEATING_SECONDS else self._flops_of_first_round()  # heating moves the steps
        return measure_speed(self.experiment, device, Path(self.results), self.round, known)

    def _flops_of_first_round(self) -> "Flops | None":
        """Return the FLOPs that the first round counted, if it did: without heating, all rounds take the same steps."""
        path = replace(self, round=0).paths[0]
        first = read_record(path).measured if self.round and path.is_file() else None
        return first.flops if isinstance(first, Speed) else None


class MemoryRequest(ExperimentRequest, frozen=True, kw_only=True, tag="memory"):
    """Read the peak memory of a few steps."""

    runs_on_all_ranks = True

    def measure(self, device: "torch.device", _stop: StopRequest | None) -> RecordContent:
        from bench.measure.memory import measure_memory

        return measure_memory(self.experiment, device, Path(self.results))


class BatchTrialRequest(ExperimentRequest, frozen=True, kw_only=True, tag="fit"):
    """Test whether a batch fits into a memory limit."""

    runs_on_all_ranks = True
    limit_bytes: int

    def carry_out(self, device: "torch.device", stop: StopRequest | None) -> None:  # noqa: ARG002
        """Write the result; a batch that does not fit on one rank's device fits on none, and that rank writes."""
        from bench.measure.memory import try_batch_size

        circumstances = self._circumstances(device)
        try:
            fit = try_batch_size(self.experiment, device, Path(self.results), self.limit_bytes)
        except Exception:
            if self.paths[0].is_file():  # another rank has recorded that it does not fit, and has left
                sys.exit(1)
            raise
        self._write(fit, circumstances, by_any_rank=not fit.fits)
        if self.rendezvous_id and not fit.fits:
            sys.exit(1)  # the other ranks are in the middle of a step and wait for this one, so none can be informed


class AllRanksRequest(Request, frozen=True, kw_only=True):
    """A run of all ranks without an experiment; the ranks may differ."""

    runs_on_all_ranks = True

    def name_parts(self) -> tuple[str, ...]:
        return (str(torchrun_env().world_size),)

    def _circumstances(self, device: "torch.device") -> "Circumstances":
        from bench.records.current import current_circumstances

        return current_circumstances(None, device, torchrun_env().world_size)


class RankStatesRequest(AllRanksRequest, frozen=True, kw_only=True, tag="ranks"):
    """Read the state of every rank, over gloo: NCCL may be what differs or fails."""

    uses_gloo = True

    def measure(self, _device: "torch.device", _stop: StopRequest | None) -> RecordContent:
        from bench.measure.rank_states import read_rank_states

        return read_rank_states(Path(self.results))


class LinkRequest(AllRanksRequest, frozen=True, kw_only=True, tag="link"):
    """Measure the links between all ranks."""

    message_bytes: int  # of the all-reduces

    def measure(self, device: "torch.device", _stop: StopRequest | None) -> RecordContent:
        from bench.measure.link_speed import measure_links

        return measure_links(self.message_bytes, device)


class TraceRequest(ExperimentRequest, frozen=True, kw_only=True, tag="trace"):
    """Trace a few steps with torch's profiler."""

    runs_on_all_ranks = True
    extension = ".json.gz"

    def measure(self, device: "torch.device", _stop: StopRequest | None) -> None:
        from bench.measure.trace import trace

        trace(self.experiment, device, Path(self.results), self.paths[0])


class TrainingRequest(ExperimentRequest, frozen=True, kw_only=True, tag="training"):
    """Pre-train a tower; with checkpoints, a signal saves the state and ends the process by SystemExit."""

    runs_on_all_ranks = True
    budgets: dict[str, int]  # training images, by the name of the budget
    checkpoint_config: CheckpointConfig | None = None  # None: the training leaves no checkpoints

    @property
    def saves_checkpoints(self) -> bool:
        return self.checkpoint_config is not None

    def _tower_path(self, images: int) -> Path:
        return self._path("tower", *self.name_parts(), images).with_suffix(".safetensors")

    def measure(self, device: "torch.device", stop: StopRequest | None) -> RecordContent:
        from bench.train.loop import train

        results = Path(self.results)
        if self.checkpoint_config is None or stop is None:
            return train(self.experiment, device, results, self.budgets, self._tower_path)
        from bench.train.checkpoint_manager import CheckpointManager

        with exclusive_lock(Path(self.checkpoint_config.folder)) if torchrun_env().rank == 0 else nullcontext():
            manager = CheckpointManager(self.checkpoint_config, self.comparison, self.budgets, stop)
            return train(self.experiment, device, results, self.budgets, self._tower_path, manager)


class TeacherFeaturesRequest(ExperimentRequest, frozen=True, kw_only=True, tag="embedding"):
    """Store a teacher's features of all images."""

    file: str  # path of the features

    @property
    def paths(self) -> tuple[Path, ...]:
        return (Path(self.file),)

    def measure(self, device: "torch.device", _stop: StopRequest | None) -> None:
        from bench.towers.teacher import write_teacher_features

        write_teacher_features(self.experiment, device, Path(self.results), self.paths[0])


class ScoringRequest(ExperimentRequest, frozen=True, kw_only=True, tag="scoring"):
    """Score towers and reference features; a failed scoring does not stop the others, except out of memory."""

    subjects: tuple[ScoringSubject, ...]
    tasks: tuple[str, ...] = DEFAULT_TASKS
    protocols: tuple[str, ...] = msgspec.field(default_factory=default_protocols)
    root: str = ""  # folder of the tasks that lie on disk
    templates: str = ""  # file of the prompt templates of text towers

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return the files of all records, one for each subject, task and protocol."""
        return tuple(path for subject in self.subjects for *_, path in self._scorings(subject))

    def measure(self, device: "torch.device", _stop: StopRequest | None) -> None:
        from bench.records.current import current_circumstances
        from bench.transfer.score import collect_error, open_extractor, score_task
        from bench.transfer.tasks.named_tasks import load_task

        errors = list[str]()
        for subject in self.subjects:
            if not (missing := [scoring for scoring in self._scorings(subject) if not scoring[-1].is_file()]):
                continue
            with collect_error(errors, subject.title):
                extractor = open_extractor(subject.name, self.experiment, device, subject.role)
                comparison, experiment, results = self.comparison, extractor.experiment, Path(self.results)
                for task, protocol, path in missing:
                    with collect_error(errors, f"{subject.title}, {protocol} on {task}"):
                        now = current_circumstances(None, device)
                        score = score_task(extractor, load_task(task, results, self.root), protocol, self.templates)
                        record = Record(
                            comparison=comparison,
                            experiment=experiment,
                            circumstances=now,
                            measured=score,
                            method=added_method_text(experiment),
                        )
                        write_record(record, path)
        if errors:
            raise RuntimeError("; ".join(errors))

    def _scorings(self, subject: ScoringSubject) -> list[tuple[str, str, Path]]:
        return [
            (task, protocol, self._path("transfer", *self._subject_names(subject), task, protocol))
            for task, protocol in compatible_tasks_and_protocols(subject.name, self.tasks, self.protocols)
        ]

    def _subject_names(self, subject: ScoringSubject) -> tuple[str, ...]:
        if subject.name == RANDOM_INIT:
            return ("random-init", *self.name_parts())
        role = (subject.role,) if subject.role else ()
        if not subject.name.endswith(".safetensors"):
            return (*role, subject.name.replace(" ", "-"))
        path, prefix = Path(subject.name), f"{self.comparison}.tower."
        names = path.stem.removeprefix(prefix).split(".")
        if not path.name.startswith(prefix):  # files of several folders may have one name
            names.append(hashlib.sha256(str(path).encode()).hexdigest()[:8])
        return (*role, *names)


class FiguresRequest(ExperimentRequest, frozen=True, kw_only=True, tag="figures"):
    """Measure the figures of a measurement."""

    measurement: str  # its name
    round: int = 0

    @property
    def runs_on_all_ranks(self) -> bool:
        return get_measurement(self.measurement).runs_on_all_ranks

    def name_parts(self) -> tuple[str, ...]:
        return (*super().name_parts(), self.measurement, f"round{self.round:02}")

    def measure(self, device: "torch.device", _stop: StopRequest | None) -> Figures:
        of = get_measurement(self.measurement)
        values = of.run(self.experiment, device, Path(self.results))
        figures = tuple(of.figures)
        return Figures(measurement=of.name, title=of.title, round=self.round, figures=figures, values=values)


class FailureRequest(Request, frozen=True, kw_only=True, tag="failure"):
    """Record that a job failed."""

    label: str  # name of the job
    reason: str

    def name_parts(self) -> tuple[str, ...]:
        return (self.label,)

    def measure(self, _device: "torch.device", _stop: StopRequest | None) -> Failure:
        return Failure(what=self.label, reason=self.reason)


_RUNS = (
    *(SpeedRequest, MemoryRequest, BatchTrialRequest, TraceRequest, TrainingRequest, RankStatesRequest, LinkRequest),
    *(TeacherFeaturesRequest, ScoringRequest, FiguresRequest, FailureRequest),
)
BUILT_IN_RUNS: dict[str, type[Request]] = {tag_of(kind): kind for kind in _RUNS}
