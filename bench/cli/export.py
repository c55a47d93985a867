"""The verb `export`: a trained tower in a layout that open_clip or timm loads."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from bench.cli.options import Results
from bench.console.exit_codes import OK


@dataclass(frozen=True, slots=True)
class Export:
    """Write a trained tower so that others can load it: open_clip's layout, timm's for a tower of timm's."""

    tower: Positional[str]
    out: Annotated[Path, arg(help="folder to write to; it must be empty or not there")]
    results: Results = Path("results")
    how_to_go_on = "a folder that is not finished holds no configuration; remove it"

    def run(self) -> int:
        """Write the folder, and print how to load it."""
        if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise ValueError(f"{self.out} is there already; remove it, or name another folder")
        from bench.towers.exported import export
        from bench.towers.tower_from import tower_from

        known = tower_from(self.tower, self.results)
        self.out.mkdir(parents=True, exist_ok=True)
        print(export(known, self.out))
        print(f"written: {self.out}", file=sys.stderr)
        return OK
