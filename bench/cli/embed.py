"""The verb `embed`: the features that a distillation's teacher computes of the pack's images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from bench.cli.options import Results, Settings, experiment_from, finish
from bench.orchestration.comparison import Scope
from bench.orchestration.preflight import open_comparison
from bench.orchestration.requests import EmbeddingRequest
from bench.orchestration.runner import START_SECONDS


@dataclass(frozen=True, slots=True)
class Embed:
    """Compute a distillation teacher's features of every image and store them for training."""

    name: Positional[str]  # name of a distillation experiment
    out: Annotated[Path, arg(help=".safetensors file for the features, to be passed as `--set teacher=FILE`")]
    settings: Settings = ()
    results: Results = Path("results")
    resume_hint = "unfinished features are not stored; start the command again"

    def run(self) -> int:
        """Compute the features in a separate process."""
        experiment = experiment_from(self.name, self.settings)
        if experiment.method != "distill":
            raise ValueError(
                f"{self.name} has the method {experiment.method}; name an experiment of the method distill"
            )
        if self.out.suffix != ".safetensors":
            raise ValueError(f"--out must be a .safetensors file, got {self.out}")
        if self.out.exists():
            raise ValueError(f"{self.out} exists; remove it, or name another file")
        comparison = open_comparison(self.results, [experiment], Scope("embed", 0), trained=False)
        label, file = f"features of {experiment.teacher}", str(self.out.resolve())
        job = comparison.new_job(EmbeddingRequest, experiment, label, START_SECONDS, file=file)
        comparison.runner.run([job], threads=comparison.cores)
        return finish(comparison)
