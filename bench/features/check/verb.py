"""The verb `check`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from bench.cli.options import Json
from bench.console.console import DISAGREEMENT, OK
from bench.console.tables import print_tables
from bench.experiment.config import change
from bench.experiment.experiments import EXPERIMENTS
from bench.interfaces.extensions import get_loaded_extension, load_features_and_extensions
from bench.tables.tables import Table

SMALL_SETTINGS = {
    "batch_size": 8,
    "images_seen": 64,
    "warmup_images": 0,
    "subset": "random:64",
    "precision": "fp32",
    "compile": "off",
    "patch_drop": 0.0,
}


@dataclass(frozen=True, slots=True)
class CheckMethods:
    """Check the methods of an extension on a few images of the shipped pack, on the CPU.

    Trainings, timed runs and several GPUs rely on these rules: the loss calls the tower, gradients reach all trained
    parameters, nothing waits for the GPU, two processes have the loss, gradients and buffers of one, padding does not
    change the loss, loader workers can receive the method, and a resumed training continues to the last bit. The exit
    code is 1 if a check fails.
    """

    # file of the extension, or name of its module
    extension: Annotated[Positional[str], arg(metavar="EXTENSION")]
    json: Json = None

    def run(self) -> int:
        """Print a table of the checks of each method."""
        load_features_and_extensions([self.extension])
        added = [method.name for method in get_loaded_extension(self.extension).methods]
        if not added:
            raise ValueError(f"{self.extension} adds no method: nothing to check")

        from bench.features.check.checks import run_method_checks

        tables = []
        has_failed = False
        for method in added:
            experiment = change(EXPERIMENTS[f"{method}-tiny"], **SMALL_SETTINGS)
            outcomes = run_method_checks(experiment, Path("results"))
            rows = [{"check": name, "outcome": outcome} for name, outcome in outcomes.items()]
            tables.append(Table.from_dicts(f"Method {method}", rows))
            has_failed = has_failed or {*outcomes.values()} != {"ok"}
        print_tables(tables, self.json)
        return DISAGREEMENT if has_failed else OK
