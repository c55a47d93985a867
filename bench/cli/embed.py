"""The verb `embed`: a teacher's features of all pictures, made once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from bench.cli.options import Results, Settings
from bench.config import with_settings
from bench.console.exit_codes import FAILED_CASE, OK
from bench.console.tables import show
from bench.experiments import experiment_named
from bench.measure.tables import failure_table
from bench.orchestration.comparison import Scope
from bench.orchestration.duration_estimates import START_SECONDS
from bench.orchestration.preflight import begin
from bench.orchestration.requests import EmbeddingRequest


@dataclass(frozen=True, slots=True)
class Embed:
    """Store what a distillation's teacher makes of every picture, so that training need not ask it again."""

    name: Positional[str]
    out: Annotated[Path, arg(help="file for the features, for `--set teacher=FILE`")]
    settings: Settings = ()
    results: Results = Path("results")
    how_to_go_on = "features that are not finished leave nothing"

    def run(self) -> int:
        """Embed in a process of its own."""
        experiment = with_settings(experiment_named(self.name), self.settings)
        if experiment.method != "distill":
            raise ValueError(
                f"{self.name} is of {experiment.method}, which has no teacher; name an experiment of distill"
            )
        if self.out.suffix != ".safetensors":
            raise ValueError(f"--out is a .safetensors file, got {self.out}")
        if self.out.exists():
            raise ValueError(f"{self.out} is there already; remove it, or name another file")
        comparison = begin(self.results, [experiment], Scope("embed", 0), trained=False)
        label, file = f"features of {experiment.teacher}", str(self.out.resolve())
        job = comparison.job(EmbeddingRequest, experiment, label, START_SECONDS, file=file)
        comparison.runner.run([job], threads=comparison.cores)
        show([failure_table(comparison.records())])
        return FAILED_CASE if comparison.runner.failures else OK
