"""The verb `transfer`: scores towers on transfer tasks, beside baselines."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import ClassVar

from tyro.conf import Positional

from bench.cli.options import Json, Protocols, Results, Root, Tasks, print_results
from bench.console.console import PROGRAM
from bench.environment.imports import imports_without_gc
from bench.experiment.config import Experiment, choose
from bench.experiment.experiments import EXPERIMENTS
from bench.interfaces.catalog import (
    DEFAULT_ROOT_TASK,
    DEFAULT_TASKS,
    PROTOCOLS,
    RANDOM_INIT,
    TASKS,
    ScoringSubject,
    compatible_tasks_and_protocols,
    default_protocols,
)
from bench.orchestration.preflight import begin, check, resume
from bench.towers.provenance import is_trained_here, latest_towers, read_provenance
from bench.transfer.terminal_tables import transfer_tables

STAND_IN = "catlip-tiny"  # experiment of the records of a tower that no experiment trained


@dataclass(frozen=True, slots=True)
class Transfer:
    """Score trained towers on transfer tasks, beside the random-init baseline, raw pixels, and HOG with colour.

    TOWER is the name of an experiment (its newest towers), a tower file, a CoreNet file, an open_clip folder, or
    NAME=FILE with the name of an open_clip or timm model. Scores are recorded.
    """

    # Experiment, tower file, or weights trained by CoreNet, open_clip or timm.
    tower: Positional[str]
    tasks: Tasks = ()
    protocols: Protocols = ()
    root: Root = None
    resume: bool = False  # resume the newest scoring of the same towers and root
    results: Results = Path("results")
    json: Json = None
    purpose: ClassVar[str] = "score"
    resume_hint = "finished scores are kept; resume with the same command and --resume"

    def run(self) -> int:
        """Score the towers and print the accuracy tables."""
        tasks, root, protocols = choose_tasks_root_and_protocols(
            self.tasks, self.root, self.protocols
        )
        towers = _resolve_tower_arguments(self.tower, self.results)
        trained_by = dict[str, Experiment]()
        for tower in towers:
            if is_trained_here(Path(tower)):
                trained_by[tower] = read_provenance(Path(tower)).experiment
        experiment = trained_by.get(towers[0], EXPERIMENTS[STAND_IN])
        digest = hashlib.sha256("\0".join([*towers, root]).encode()).hexdigest()[:8]
        purpose = f"transfer-{digest}"
        check(self.results, [experiment], tasks=tasks, reads_data=False)
        if self.resume:
            comparison = resume(self.results, purpose, [experiment], scored=trained_by.values())
        else:
            comparison = begin(self.results, purpose, [experiment])
        require_openable_tasks(comparison.results, root, tasks, towers)
        subjects = [ScoringSubject(tower) for tower in towers]
        # The towers of one seed, which have seen different numbers of images, have one random-init baseline.
        distinct = {
            trained_by[tower].seed if tower in trained_by else tower: tower for tower in towers
        }
        subjects += [ScoringSubject(tower, is_untrained=True) for tower in distinct.values()]
        comparison.score_towers(subjects, protocols, tasks, root=root)
        return print_results(comparison, transfer_tables(comparison.records()), self.json)


def _resolve_tower_arguments(tower: str, results: Path) -> list[str]:
    """Return arguments of `load_tower` with absolute paths: the newest towers of an experiment, or the named tower."""
    if tower in EXPERIMENTS or "[" in tower:  # which begins an experiment's settings
        return [str(path.resolve()) for path in latest_towers(results, tower)]
    name, equals, file = ("", "", tower) if Path(tower).exists() else tower.rpartition("=")
    if not Path(file).exists():
        near = get_close_matches(tower, EXPERIMENTS, n=1)
        hint = f"; did you mean {near[0]}?" if near else f" ({PROGRAM} list)"
        raise ValueError(f"there is no tower file {file}, nor an experiment of that name{hint}")
    return [f"{name}{equals}{Path(file).resolve()}"]


def require_openable_tasks(
    results: Path, root: str, tasks: Sequence[str], towers: Sequence[str] = ()
) -> None:
    """Open the tasks on disk, and towers, in this process; ValueError or OSError if one cannot be opened."""
    with imports_without_gc():  # of torch, too
        from bench.transfer.named_tasks import require_openable
    require_openable(results, root, towers, [task for task in tasks if TASKS[task].layout])


def choose_tasks_root_and_protocols(
    tasks: Sequence[str], root: Path | None, protocols: Sequence[str] = ()
) -> tuple[list[str], str, list[str]]:
    """Return tasks, the absolute folder of those on disk ("" for none), and protocols, or their defaults.

    With a folder, the default task reads it as its content shows. ValueError for a task on disk without a folder, or
    as `choose_tasks_and_protocols`.
    """
    tasks, protocols = choose_tasks_and_protocols(
        tasks or ([] if root is None else [DEFAULT_ROOT_TASK]), protocols
    )
    on_disk = {task: TASKS[task].layout for task in tasks if TASKS[task].layout}
    if on_disk and root is None:
        expected = "; ".join(f"{task} ({layout})" for task, layout in on_disk.items())
        raise ValueError(f"--root is missing: name the folder that holds the data of {expected}")
    if root is not None and not on_disk:
        raise ValueError(
            f"--root is for tasks on disk, and {', '.join(tasks)} has none: leave out --root or --task"
        )
    return tasks, "" if root is None else str(root.resolve()), protocols


def choose_tasks_and_protocols(
    tasks: Sequence[str], protocols: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return tasks and protocols, or their defaults; ValueError if one is compatible with none of the others."""
    protocols = [choose(name, PROTOCOLS, "protocol").name for name in protocols]
    accepted = protocols or default_protocols()
    by_default = [
        name
        for name in DEFAULT_TASKS
        if compatible_tasks_and_protocols(RANDOM_INIT, [name], accepted)
    ]
    tasks = [choose(name, TASKS, "task").name for name in tasks] or by_default
    protocols = protocols or [
        name for name in accepted if compatible_tasks_and_protocols(RANDOM_INIT, tasks, [name])
    ]
    for task in tasks:
        if not compatible_tasks_and_protocols(RANDOM_INIT, [task], protocols):
            labels = TASKS[task].labels
            fitting = [name for name, protocol in PROTOCOLS.items() if protocol.labels == labels]
            raise ValueError(f"{task} has {labels}: add one of the protocols {', '.join(fitting)}")
    for protocol in protocols:
        if not compatible_tasks_and_protocols(RANDOM_INIT, tasks, [protocol]):
            raise ValueError(
                f"{protocol} scores tasks that have {PROTOCOLS[protocol].labels}: add such a --task"
            )
    return tasks, protocols
