"""The verbs `embed` and `export`: a teacher's features, and tower files for other libraries."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from msgspec import structs
from tyro.conf import Positional, arg

from bench.cli.options import Results, Settings, experiment_from, print_results
from bench.console.console import OK, log
from bench.environment.files import make_folders
from bench.interfaces.method import METHODS, get_method
from bench.orchestration.preflight import begin, check


@dataclass(frozen=True, slots=True)
class Embed:
    """Compute a distillation teacher's features of every image and store them for training."""

    name: Positional[str]  # name of an experiment with a teacher
    out: Annotated[
        Path, arg(help=".safetensors file for the features, to be passed as `--set teacher=FILE`")
    ]
    settings: Settings = ()
    results: Results = Path("results")

    def run(self) -> int:
        """Compute the features in a separate process."""
        experiment = experiment_from(self.name, self.settings)
        if not get_method(experiment.method).has_teacher:
            accepted = ", ".join(name for name, method in METHODS.items() if method.has_teacher)
            raise ValueError(
                f"{self.name} has the method {experiment.method}; name an experiment of a method with a teacher "
                f"({accepted})"
            )
        if self.out.suffix != ".safetensors":
            raise ValueError(f"--out must be a .safetensors file, got {self.out}")
        if self.out.exists():
            raise ValueError(f"{self.out} exists; remove it, or name another file")
        check(self.results, [experiment])
        comparison = begin(self.results, "embed", [experiment])
        label = f"features of {experiment.targets.teacher}"
        function = "bench.towers.teacher:write_teacher_features"
        run = comparison.new_run(function, "embedding", experiment, label)
        run = structs.replace(run, files=(str(self.out.resolve()),))
        comparison.runner.run([run], threads=comparison.cores)
        return print_results(comparison)


@dataclass(frozen=True, slots=True)
class Export:
    """Export a trained tower in open_clip's layout, or in timm's layout if it is a timm tower."""

    tower: Positional[str]  # tower file, or name of an experiment whose newest tower is exported
    out: Annotated[Path, arg(help="folder for the exported files, empty or absent")]
    results: Results = Path("results")

    def run(self) -> int:
        """Write the folder, and print the code that loads it."""
        if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise ValueError(
                f"{self.out} exists and is not an empty folder; remove it, or name another folder"
            )
        from bench.towers.export import export_tower
        from bench.towers.tower_from import load_tower

        known = load_tower(self.tower, self.results)
        make_folders(self.out)
        print(export_tower(known, self.out))
        log(f"written: {self.out}, from {known.file}" if known.file else f"written: {self.out}")
        return OK
