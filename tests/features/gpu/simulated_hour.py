"""The steps of `gpu` on a simulated GPU: the verb is the real one, in this process."""

from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bench.cli.main import dispatch
from bench.features.gpu import verb
from bench.measure.generated_shards import write_shard
from reports.__main__ import main as report
from tests.simulated_gpu import SimulatedGpu

COMMAND, PAGE, OTHER = 15.0, 12.0, 40.0  # seconds


@dataclass
class SimulatedHour(SimulatedGpu):
    """What `gpu` starts on the machine, and what it would have killed."""

    draws_pages: bool = True
    started: list[tuple[str, float]] = field(default_factory=list)  # commands of steps, and when
    killed: list[str] = field(default_factory=list)

    def installed(self, patch: pytest.MonkeyPatch) -> float:
        patch.setattr(verb, "run_command", self.run_command)
        patch.setattr(verb, "count_gpus", lambda: 1)
        return super().installed(patch)

    def run_command(self, words: Sequence[str], output: Path, seconds: float, _settings: Any) -> int | None:
        """Do what a step's command does, and tell if it would have been killed."""
        start, (module, *options) = self.now, words[2:]
        with output.open("a") as file, redirect_stdout(file), redirect_stderr(file):
            if module == "reports":
                self.advance(PAGE)
                code = report(options) if self.draws_pages else 0
            else:
                self.started.append((" ".join(words[1:]), start))
                code = self._run_step(module, options)
        if self.now - start > seconds:
            self.killed.append(" ".join(words))
            self.now = start + seconds
            return None
        return code

    def _run_step(self, module: str, options: list[str]) -> int:
        if module == "bench" and options[0] in ("measure", "explain", "reference"):
            self.advance(COMMAND)
            return dispatch(options)
        if module == "bench.measure.generated_shards":
            Path(options[0]).mkdir()
            write_shard(Path(options[0]) / "0.tar", range(300), ["a dog on a chair"] * 300, 16, 16)
        self.advance({"pytest": 270.0, "bench.features.gpu.preflight": 42.0}.get(module, OTHER))
        return 0
