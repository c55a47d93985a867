"""The verb `transfer`: what towers know about tasks, by any protocol, beside what knows nothing."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from bench.catalog import (
    DEFAULT_PROTOCOLS,
    KINDS,
    ON_DISK,
    PROTOCOLS,
    RANDOM_TOWER,
    TASKS,
    Scored,
    scorings,
)
from bench.cli.options import Json, Protocols, Results, Tasks
from bench.config import Experiment, choose
from bench.console.console import PROGRAM
from bench.console.exit_codes import FAILED_CASE, OK
from bench.console.tables import show
from bench.environment.commit import CHECKOUT
from bench.experiments import EXPERIMENTS
from bench.measure.tables import failure_table
from bench.orchestration.comparison import Comparison, Scope
from bench.orchestration.preflight import begin
from bench.towers.made import how_made, is_made_here, newest_towers
from bench.transfer.classification.init_tables import init_tables, without_init
from bench.transfer.score_tables import accuracy_tables

STAND_IN = "catlip-tiny"  # whose name the jobs have where no experiment made the tower


@dataclass(frozen=True, slots=True)
class Transfer:
    """Score the newest towers trained of a named experiment, a tower file, or a tower that was trained elsewhere.

    That is a file of CoreNet's, a folder of open_clip's, or NAME=FILE with a model of open_clip or timm. Beside each
    stand the same tower with random weights, raw pixels, and gradients with colours. What is scored is recorded.
    """

    tower: Positional[str]
    tasks: Tasks = ()
    protocols: Protocols = ()
    root: Annotated[Path | None, arg(help="folder with the data of tasks that the pack does not have")] = None
    reference: Annotated[str | None, arg(metavar="TOWER", help="a tower known to be good, to be the ceiling")] = None
    resume: bool = False  # go on with the newest scoring of the same towers and root
    results: Results = Path("results")
    json: Json = None
    how_to_go_on = "what is scored is kept; go on with the same command and --resume"

    def run(self) -> int:
        """Score."""
        tasks, protocols = _fitting(self.tasks, self.protocols)
        elsewhere = [task for task in tasks if task in ON_DISK]
        if elsewhere and self.root is None:
            raise ValueError(f"--root is missing: the folder that holds the data of {', '.join(elsewhere)}")
        towers, root = _towers(self.tower, self.results), str(self.root.resolve()) if self.root else ""
        ceiling = None if self.reference is None else _most_trained(_towers(self.reference, self.results))
        opened = [*towers, *([] if ceiling is None else [ceiling])]
        made = {tower: how_made(Path(tower)).experiment for tower in opened if is_made_here(Path(tower))}
        experiment = made.get(towers[0], EXPERIMENTS[STAND_IN])
        what = hashlib.sha256("\0".join(map(str, (*towers, ceiling, root))).encode()).hexdigest()[:8]
        scope = Scope(f"transfer-{what}", 0)
        comparison = begin(self.results, [experiment], scope, resume=self.resume, trained=False, scored=made.values())
        _require_openable(comparison, root, opened, elsewhere)
        subjects = [*map(Scored, towers), *([] if ceiling is None else [Scored(ceiling, "reference")])]
        subjects += _floors(opened, made)
        comparison.score_towers(subjects, [], tasks, protocols, root)
        records = comparison.records()
        show([*accuracy_tables(without_init(records)), *init_tables(records), failure_table(records)], self.json)
        return FAILED_CASE if comparison.runner.failures else OK


def _towers(tower: str, results: Path) -> list[str]:
    """Return what `tower_from` takes, paths from the root: the newest of an experiment, or what was named itself."""
    if tower in EXPERIMENTS or "[" in tower:  # which begins an experiment's settings
        return [str(path.resolve()) for path in newest_towers(results, tower)]
    name, equals, file = ("", "", tower) if Path(tower).exists() else tower.rpartition("=")
    if not Path(file).exists():
        raise ValueError(f"there is no tower file {file} (nor an experiment of that name: {PROGRAM} list)")
    return [f"{name}{equals}{Path(file).resolve()}"]


def _most_trained(towers: Sequence[str]) -> str:
    if len(towers) == 1:
        return towers[0]
    return max(towers, key=lambda tower: how_made(Path(tower)).images)


def _floors(towers: Sequence[str], made: Mapping[str, Experiment]) -> list[Scored]:
    """Return towers with random weights beside those given: one of each architecture and seed of those made here."""
    kinds = {tower: (of.tower, of.image_size, of.seed) for tower, of in made.items()}
    first = {kinds.get(tower, tower): tower for tower in reversed(towers)}
    return [Scored(tower, "untrained") for tower in first.values()]


def _fitting(tasks: Sequence[str], protocols: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return what to score on and by, or what is scored by default; ValueError for one that fits none of the others."""
    tasks = [choose(name, dict.fromkeys(KINDS, name), "task") for name in tasks] or [*TASKS]
    by_default = [name for name in DEFAULT_PROTOCOLS if scorings(RANDOM_TOWER, tasks, [name])]
    protocols = [choose(name, dict.fromkeys(PROTOCOLS, name), "protocol") for name in protocols] or by_default
    for task in tasks:
        if not scorings(RANDOM_TOWER, [task], protocols):
            fitting = [name for name, takes in PROTOCOLS.items() if takes.kind == KINDS[task]]
            raise ValueError(f"{task} has {KINDS[task]}, and is scored by {', '.join(fitting)}")
    for protocol in protocols:
        if not scorings(RANDOM_TOWER, tasks, [protocol]):
            raise ValueError(f"{protocol} scores tasks that have {PROTOCOLS[protocol].kind}, and none of them is named")
    return tasks, protocols


def _require_openable(comparison: Comparison, root: str, towers: Sequence[str], tasks: Sequence[str]) -> None:
    """Open towers, and tasks that lie on disk, once in a process of its own; ValueError where one cannot be opened."""
    asked = (str(comparison.results), root, json.dumps(towers), json.dumps(tasks))
    command = [sys.executable, "-m", "bench.transfer.preload_check", *asked]
    done = subprocess.run(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        told = f"the check of {', '.join([*towers, *tasks])} ended with {done.returncode}"
        raise ValueError(done.stdout.strip() or told)
