"""The runs of a comparison with other people's training code. Only their work imports torch."""

from pathlib import Path
from typing import TYPE_CHECKING

from bench.console.console import StopRequest
from bench.orchestration.request_base import ExperimentRequest
from bench.records.record_kind import RecordContent

if TYPE_CHECKING:
    import torch


class ReferenceRequest(ExperimentRequest, frozen=True, kw_only=True, tag="reference"):
    """Time one side of a comparison with a reference implementation."""

    side: str  # a name of `bench.features.reference`
    checkout: str = ""  # path of the reference's code; empty: it is installed, or part of this project
    round: int = 0

    def name_parts(self) -> tuple[str, ...]:
        return (*super().name_parts(), self.side, f"round{self.round:02}")

    def measure(self, device: "torch.device", _stop: StopRequest | None) -> RecordContent:
        from bench.features.reference.runs import run_side

        return run_side(self.experiment, device, Path(self.results), self.side, self.round, self.checkout)


class ReleasedRunRequest(ExperimentRequest, frozen=True, kw_only=True, tag="released-run"):
    """Time the authors' training loop with their configuration file."""

    uses_tf32 = True  # convolutions by torch's default, products as CoreNet's `device_setup` sets them
    checkout: str  # path
    file: str  # within the checkout
    is_tiny: bool  # with the changes of the tiny scale
    round: int = 0

    def name_parts(self) -> tuple[str, ...]:
        return (*super().name_parts(), f"round{self.round:02}")

    def measure(self, device: "torch.device", _stop: StopRequest | None) -> RecordContent:
        from bench.features.reference.corenet_released import run_as_released

        files = Path(self.checkout), self.file
        return run_as_released(self.experiment, device, Path(self.results), *files, self.round, is_tiny=self.is_tiny)
