"""The verbs `embed` and `export`: a teacher's features, and a tower as files that open_clip or timm loads."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from bench.cli.options import Results, Settings, experiment_from, finish
from bench.console.console import OK
from bench.orchestration.comparison import Scope
from bench.orchestration.duration_estimates import START_SECONDS
from bench.orchestration.preflight import open_comparison
from bench.orchestration.requests import EmbeddingRequest


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
        job = comparison.job(EmbeddingRequest, experiment, label, START_SECONDS, file=file)
        comparison.runner.run([job], threads=comparison.cores)
        return finish(comparison)


@dataclass(frozen=True, slots=True)
class Export:
    """Export a trained tower in open_clip's layout, or in timm's layout if it is a timm tower."""

    tower: Positional[str]  # tower file, or name of an experiment whose newest tower is exported
    out: Annotated[Path, arg(help="folder for the exported files, empty or absent")]
    results: Results = Path("results")
    resume_hint = "an unfinished folder holds no configuration; remove it and start the command again"

    def run(self) -> int:
        """Write the folder, and print the code that loads it."""
        if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise ValueError(f"{self.out} exists and is not an empty folder; remove it, or name another folder")
        from bench.towers.exported import export_tower
        from bench.towers.tower_from import load_tower

        known = load_tower(self.tower, self.results)
        self.out.mkdir(parents=True, exist_ok=True)
        print(export_tower(known, self.out))
        print(f"written: {self.out}", file=sys.stderr)
        return OK
