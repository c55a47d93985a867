"""A machine with one H100 that takes no time: its clock moves by the seconds that each run would take.

Verbs are the real ones, in this process; what their runs measure is made up.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bench.environment.circumstances import current_commit
from bench.environment.gpu_specs import GPU_SPECS
from bench.experiment.config import Experiment
from bench.experiment.fields import PACK_DATA
from bench.orchestration import preflight
from bench.orchestration.pace import GpuPace
from bench.orchestration.request_base import Request
from bench.orchestration.requests import MemoryRequest, SpeedRequest
from bench.orchestration.runner import Runner
from bench.records.record import KINDS, Flops, Memory, Record, write_record
from bench.records.record_kind import RecordContent
from tests.small import circumstances
from tests.speeds import speed

H100 = GPU_SPECS["h100"]
SETTINGS = {"driver": "580.1", "power limit": "700 W"}
CIRCUMSTANCES = {"device": "cuda", "machine": "NVIDIA H100 80GB HBM3; 16 cores", "precision": "bf16", "compiled": True}
CIRCUMSTANCES |= {"gpu": SETTINGS, "gpu_uuid": "one"}
FLOPS_SHARE = 0.33  # of the peak, that steps reach
LADDER_RUN, FEW_STEPS_RUN, COMPILATION = 8.0, 20.0, 10.0  # seconds
B16_STEPS = 8.0  # seconds of the steps of a run of ViT-B/16; the others are its start, heating and FLOPs


@dataclass
class SimulatedGpu:
    """The seconds of this machine, and the records of its runs."""

    run_seconds: float = 70.0  # of a speed run of ViT-B/16 at batch 256
    times_slower: float = 1.0
    now: float = 1000.0
    runs: list[Path] = field(default_factory=list)  # records

    def installed(self, patch: pytest.MonkeyPatch) -> float:
        """Take the place of this machine; return the time."""
        patch.setattr(time, "monotonic", lambda: self.now)
        patch.setattr(preflight, "count_gpus", lambda: 1)
        patch.setattr(preflight, "find_machine_gpu", lambda: H100)
        patch.setattr(preflight, "read_gpu_settings", lambda _: SETTINGS)
        patch.setattr(preflight, "first_gpu_handle", lambda: None)
        patch.setattr(Runner, "_start", lambda _runner, request, *_, **__: self.start_run(request))
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += self.times_slower * seconds

    def start_run(self, request: Request) -> str:
        """Write the record of a run."""
        experiment = request.experiment
        assert experiment is not None
        measured = self._measure(request, experiment)
        path = request.paths[0]
        self.runs.append(path)
        if measured is None:  # a trace
            path.touch()
            return ""
        where = circumstances(commit=current_commit(), **CIRCUMSTANCES)
        record = Record(comparison=request.comparison, experiment=experiment, circumstances=where, measured=measured)
        write_record(record, path)
        return ""

    def _measure(self, request: Request, experiment: Experiment) -> RecordContent | None:
        match request:
            case SpeedRequest(round=round_):
                steps = (
                    experiment.timing.windows + 1
                ) * experiment.timing.steps_per_window  # one window is timed in phases
                compilation = COMPILATION if experiment.runtime.compile == "off" else 0.0
                self.advance(self.run_seconds - compilation - B16_STEPS + steps * self._step_seconds(experiment))
                shaken = (
                    (1 + 0.002 * (round_ % 3)) * self._step_seconds(experiment) * experiment.timing.steps_per_window
                )
                flops = Flops(image_forward=10**13, text_forward=0, forward=10**13, step=3 * 10**13)
                seconds = (shaken,) * experiment.timing.windows
                figures = {"flops": flops, "peak_flops_per_second": H100.bf16_flops}
                if experiment.input.data != PACK_DATA:
                    figures |= {"data_wait_share": 0.2, "loader_workers": 15}
                return speed(round=round_, window_seconds=seconds, **figures)
            case MemoryRequest():
                self.advance(FEW_STEPS_RUN + (0.0 if experiment.runtime.compile == "off" else 2 * COMPILATION))
                peaks = dict.fromkeys(("peak_allocated_bytes", "peak_reserved_bytes", "peak_tensor_bytes"), 10**10)
                return Memory(steps=3, trained_parameters=1, peak_rss_bytes=None, **peaks)
            case Request(kind="ladder"):
                self.advance(LADDER_RUN)
                return request.ladder  # type: ignore[attr-defined]
            case Request(kind="reference"):
                self.advance(self.run_seconds)
                figures = {"window_seconds": (1.0, 1.0), "losses": (1.0,) * 20, "tokens_per_caption": 17.0}
                figures |= {"side": request.side, "round": request.round}  # type: ignore[attr-defined]
                return KINDS["reference"](**figures)
            case _:
                self.advance(FEW_STEPS_RUN + (0.0 if experiment.runtime.compile == "off" else COMPILATION))
                return None

    def _step_seconds(self, experiment: Experiment) -> float:
        """Return the seconds of a step at a share of the peak; CLIP's is 6 % longer than its FLOPs."""
        at_pace = GpuPace(gpu=H100, fixed_step_seconds=0.0).step_seconds(experiment)
        return (1.06 if experiment.method == "clip" else 1.0) * at_pace * 0.18 / FLOPS_SHARE
