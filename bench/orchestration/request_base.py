"""What all kinds of runs of `bench.orchestration.requests` share: their fields, files and record."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import msgspec

from bench.console.console import StopRequest
from bench.environment.rank_info import torchrun_env
from bench.experiment.config import Experiment, choose
from bench.interfaces.method import added_method_text
from bench.interfaces.registry import Registry
from bench.records.record import Record, record_path, write_record
from bench.records.record_kind import RecordContent, Tag, require_tagged, tag_of

if TYPE_CHECKING:
    import torch

    from bench.environment.circumstances import Circumstances


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """A run. Each kind has a tag, and implements `measure` and `name_parts`."""

    results: str  # folder of the records
    comparison: str  # name of the comparison that the records belong to
    experiment: Experiment | None = None
    rendezvous_id: str = ""  # name under which the ranks of a distributed run rendezvous; empty: a single process

    uses_gloo: ClassVar[bool] = False  # ranks communicate over gloo, also on GPUs
    uses_tf32: ClassVar[bool] = False  # a GPU rounds what it multiplies in fp32 to TF32
    extension: ClassVar[str] = ".json"

    @property
    def kind(self) -> str:
        """Return the tag of this kind of run."""
        return tag_of(type(self))

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return the files that exist once the run is done."""
        return (self._path(self.kind, *self.name_parts()).with_suffix(self.extension),)

    @property
    def runs_on_all_ranks(self) -> bool:
        """Whether all ranks of a torchrun start it together."""
        return False

    @property
    def saves_checkpoints(self) -> bool:
        """Whether the run saves its state when it is asked to end."""
        return False

    def carry_out(self, device: "torch.device", stop: StopRequest | None) -> None:
        """Run, and write the record with the time and the commit of the start; rank 0 writes for all ranks."""
        circumstances = self._circumstances(device)
        measured = self.measure(device, stop)
        if measured is not None:
            self._write(measured, circumstances)

    def measure(self, device: "torch.device", stop: StopRequest | None, /) -> RecordContent | None:
        """Return what the run leaves; None where it writes its own files. `stop` tells when it is asked to end."""
        raise NotImplementedError

    def _circumstances(self, device: "torch.device") -> "Circumstances":
        from bench.train.distributed import circumstances_of_ranks
        from bench.train.equal_data import require_equal_data

        if self.experiment is not None and self.rendezvous_id:
            require_equal_data(self.experiment)
        return circumstances_of_ranks(self.experiment, device)

    def _write(self, measured: RecordContent, circumstances: "Circumstances", *, by_any_rank: bool = False) -> None:
        if by_any_rank or not self.rendezvous_id or torchrun_env().rank == 0:
            record = Record(
                comparison=self.comparison,
                experiment=self.experiment,
                circumstances=circumstances,
                measured=measured,
                method=added_method_text(self.experiment),
            )
            write_record(record, self.paths[0])

    def name_parts(self) -> tuple[str, ...]:
        """Return the parts of the record's file name that follow its kind."""
        raise NotImplementedError

    def _path(self, *names: object) -> Path:
        return record_path(Path(self.results), self.comparison, *map(str, names))


RUNS = Registry[type[Request]]("kind of run", built_in="bench.orchestration.requests:BUILT_IN_RUNS")


def add_request_kind(kind: type[Request], origin: str) -> None:
    """Add a kind of run; ValueError if it is none, or its tag is taken."""
    RUNS.add(require_tagged(kind, Request, RUNS.noun, origin), kind, origin)


def decode_request(content: bytes) -> Request:
    """Return the request that JSON describes; ValueError if its kind is not known here."""
    kind = msgspec.json.decode(content, type=Tag).kind
    return msgspec.json.decode(content, type=choose(kind, RUNS, RUNS.noun))


class ExperimentRequest(Request, frozen=True, kw_only=True):
    """A run of one experiment."""

    experiment: Experiment

    def name_parts(self) -> tuple[str, ...]:
        return (self.experiment.name, f"seed{self.experiment.seed}")
