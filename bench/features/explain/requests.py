"""The run of an explanation that measures nothing: it records the ladder. Reports read the ladder without torch."""

from typing import TYPE_CHECKING

from bench.console.console import StopRequest
from bench.features.explain.ladder import Ladder
from bench.orchestration.request_base import ExperimentRequest

if TYPE_CHECKING:
    import torch


class LadderRequest(ExperimentRequest, frozen=True, kw_only=True, tag="ladder"):
    """Record the plan of an explanation before its runs."""

    ladder: Ladder

    def measure(self, _device: "torch.device", _stop: StopRequest | None) -> Ladder:
        return self.ladder
