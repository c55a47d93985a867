"""The verb `export`: a tower for other libraries."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from bench.cli.options import Folder
from bench.cli.transfer import resolve_tower_arguments
from bench.console.console import OK, log
from bench.environment.files import make_folders_unless_in_root
from bench.towers.provenance import read_tower_provenance


@dataclass(frozen=True, slots=True)
class ExportTower:
    """Export a trained tower in open_clip's layout, or in timm's layout if it is a timm tower."""

    # tower file that `train` wrote, or name of an experiment whose newest tower is exported
    tower: Annotated[Positional[str], arg(metavar="TOWER")]
    out: Folder  # folder to write, which must be empty or absent
    # folder in which the tower of a named experiment is looked up
    results: Folder = Path("results")

    def run(self) -> int:
        """Write the folder, and print the code that loads it."""
        if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
            raise ValueError(
                f"{self.out} exists and is not an empty folder; remove it, or name another folder"
            )
        towers = resolve_tower_arguments(self.tower, self.results)  # before torch is imported
        tower = towers[0]
        if len(towers) > 1:
            tower = max(towers, key=lambda path: (read_tower_provenance(Path(path)).images, path))
        from bench.towers.export import export_tower
        from bench.towers.tower_from import load_tower

        known = load_tower(tower)
        make_folders_unless_in_root(self.out)
        print(export_tower(known, self.out))
        source = f", from {known.file}" if known.file else ""
        log(f"written: {self.out}{source}")
        return OK
