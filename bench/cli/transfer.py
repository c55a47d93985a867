"""The verb `transfer`: scores towers on transfer tasks, beside baselines."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

from tyro.conf import Positional, arg

from bench.cli.options import (
    Json,
    Protocols,
    Results,
    ScoreOn,
    Tasks,
    print_results_and_get_exit_code,
)
from bench.environment.imports import imports_without_gc
from bench.experiment.config import Experiment, look_up
from bench.experiment.experiments import EXPERIMENTS
from bench.interfaces.catalog import (
    DEFAULT_ROOT_TASK,
    DEFAULT_TASKS,
    PROTOCOLS,
    REFERENCE_TOWER_EXTRA,
    SINGLE_LABEL,
    TASKS,
    TowerOrFeaturesToScore,
    default_protocol_names,
)
from bench.orchestration.preflight import (
    begin_comparison,
    require_runnable_and_prepare_data,
)
from bench.towers.provenance import find_latest_towers, is_catlip_bench_tower, read_tower_provenance
from bench.transfer.terminal_tables import make_transfer_tables

STAND_IN = "catlip-tiny"  # experiment of the records of a tower that no experiment trained


@dataclass(frozen=True, slots=True)
class ScoreTowers:
    """Score trained towers on transfer tasks, beside the random-init baseline, raw pixels, and HOG with colour.

    Scores are recorded in RESULTS.
    """

    # experiment whose newest towers in RESULTS are scored, tower file that `train` wrote, file of CoreNet's weights, or
    # MODEL=FILE: weights of a model of open_clip or timm
    tower: Annotated[Positional[str], arg(metavar="TOWER")]
    tasks: Tasks = ()
    protocols: Protocols = ()
    score_on: ScoreOn = None
    # continue the newest scoring of the same towers and --score-on in RESULTS; default: begin a new one
    resume: bool = False
    results: Results = Path("results")
    json: Json = None

    def run(self) -> int:
        """Score the towers and print the accuracy tables."""
        tasks, root, protocols = choose_tasks_and_protocols(
            self.tasks, self.score_on, self.protocols
        )
        towers = resolve_tower_arguments(self.tower, self.results)
        trained_by = dict[str, Experiment]()
        for tower in towers:
            if is_catlip_bench_tower(Path(tower)):
                trained_by[tower] = read_tower_provenance(Path(tower)).experiment
        experiment = trained_by.get(towers[0], EXPERIMENTS[STAND_IN])
        digest = hashlib.sha256("\0".join([*towers, root]).encode()).hexdigest()[:8]
        purpose = f"transfer-{digest}"
        require_runnable_and_prepare_data(self.results, [experiment], tasks=tasks, reads_data=False)
        comparison = begin_comparison(
            self.results,
            purpose,
            [experiment],
            resume=self.resume,
            also_accepted=trained_by.values(),
        )
        require_openable_disk_tasks_and_towers(comparison.results, root, tasks, towers)
        subjects = [TowerOrFeaturesToScore(tower) for tower in towers]
        # The towers of one seed, which have seen different numbers of images, have one random-init baseline.
        distinct = {
            trained_by[tower].seed if tower in trained_by else tower: tower for tower in towers
        }
        subjects += [
            TowerOrFeaturesToScore(tower, is_untrained=True) for tower in distinct.values()
        ]
        comparison.score_towers(subjects, protocols, tasks, root=root)
        return print_results_and_get_exit_code(
            comparison, make_transfer_tables(comparison.records()), self.json
        )


def resolve_tower_arguments(tower: str, results: Path) -> list[str]:
    """Return the paths of an experiment's newest towers, or the named tower with an absolute path, for `load_tower`."""
    if tower == REFERENCE_TOWER_EXTRA:
        return [tower]
    has_settings = "[" in tower  # an experiment's, after its name
    if tower in EXPERIMENTS or has_settings:
        return [str(path.resolve()) for path in find_latest_towers(results, tower)]
    if Path(tower).exists():
        return [str(Path(tower).resolve())]
    model, _, file = tower.rpartition("=")
    if not Path(file).exists():
        look_up(tower, EXPERIMENTS, "tower file or experiment")
    return [f"{model}={Path(file).resolve()}"]


def require_openable_disk_tasks_and_towers(
    results: Path, root: str, tasks: Sequence[str], towers: Sequence[str] = ()
) -> None:
    """Open the tasks on disk, and the towers, to refuse them early; ValueError or OSError if one cannot be opened."""
    with imports_without_gc():  # of torch, too
        from bench.transfer.named_tasks import require_openable_towers_and_tasks
    require_openable_towers_and_tasks(
        results, root, towers, [task for task in tasks if TASKS[task].layout]
    )


def choose_single_label_tasks(
    task_names: Sequence[str], root: Path | None, purpose: str
) -> tuple[list[str], str]:
    """Return tasks with one class per image, and the folder of those on disk; ValueError for another kind of task."""
    for name in task_names:
        kind = look_up(name, TASKS, "task").label_kind
        if kind != SINGLE_LABEL:
            raise ValueError(f"{name} has {kind}: {purpose} needs {SINGLE_LABEL}")
    tasks, folder, _ = choose_tasks_and_protocols(task_names, root, ["linear-probe"])
    return tasks, folder


class TasksAndProtocols(NamedTuple):
    """What towers are scored on, and how."""

    task_names: list[str]
    root: str  # absolute folder of the tasks that lie on disk; empty: none does
    protocol_names: list[str]


def choose_tasks_and_protocols(
    task_names: Sequence[str], root: Path | None, protocol_names: Sequence[str] = ()
) -> TasksAndProtocols:
    """Return the named tasks and protocols, or for an empty sequence the defaults that fit.

    With a folder, the default task reads it as its content shows. ValueError for a task on disk without a folder, and
    for tasks and protocols that do not fit each other.
    """
    protocols = [
        look_up(name, PROTOCOLS, "protocol") for name in protocol_names or default_protocol_names()
    ]
    protocol_kinds = {protocol.label_kind for protocol in protocols}
    if not task_names and root is not None:
        task_names = [DEFAULT_ROOT_TASK]
    elif not task_names:
        task_names = [name for name in DEFAULT_TASKS if TASKS[name].label_kind in protocol_kinds]
    tasks = [look_up(name, TASKS, "task") for name in task_names]
    task_kinds = {task.label_kind for task in tasks}
    for task in tasks:
        if task.label_kind not in protocol_kinds:
            raise ValueError(
                f"{task.name} has {task.label_kind}: add a --protocol that scores them"
            )
        if task.layout and root is None:
            raise ValueError(
                f"--score-on is missing: name the folder that holds the data of {task.name} ({task.layout})"
            )
    for protocol in protocols:
        if protocol_names and protocol.label_kind not in task_kinds:
            raise ValueError(
                f"{protocol.name} scores tasks that have {protocol.label_kind}: add one"
            )
    if root is not None and not any(task.layout for task in tasks):
        raise ValueError("--score-on is for tasks on disk: leave it out, or name such a --task")
    fitting_names = [protocol.name for protocol in protocols if protocol.label_kind in task_kinds]
    folder = "" if root is None else str(root.resolve(strict=True))
    return TasksAndProtocols([task.name for task in tasks], folder, fitting_names)
