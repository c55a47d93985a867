"""The authors' training code with their own files, unchanged: CLIP and CatLIP in rounds, and what each key became."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from bench.experiment.config import Experiment, change
from bench.experiment.experiments import get_experiment
from bench.experiment.recipes import AS_RELEASED
from bench.experiment.settings import with_settings
from bench.features.reference import RELEASED_FILES
from bench.features.reference.records import ReleasedRun
from bench.features.reference.requests import ReleasedRunRequest
from bench.measure.tables import ratio_columns
from bench.orchestration.comparison import Comparison
from bench.orchestration.pace import Pace
from bench.orchestration.runner import Job
from bench.orchestration.scope import default_rounds
from bench.records.record import Record
from bench.statistics.ratios import log_std, ratios_of
from bench.tables.tables import Table

BUILD_SECONDS = 20.0  # of a run, beside ours: CoreNet's modules are imported, and its pipeline is built
TINY_WINDOWS = {"windows": 3, "steps_per_window": 4, "warmup_steps": 2}
STATES = ("unclassified", "changed", "not used", "used")  # in the order of a table


class ReleasedPlan(NamedTuple):
    """The authors' files that are run, and our recipe of each, by method."""

    is_tiny: bool  # with the changes of the tiny scale
    files: dict[str, str]
    experiments: dict[str, Experiment]

    @classmethod
    def of_scale(cls, scale: str | None, settings: Sequence[str], *, on_gpu: bool) -> "ReleasedPlan":
        """Return the plan of a scale, by default vit-b16 on a GPU and tiny on a CPU."""
        is_tiny = scale == "tiny" or (scale is None and not on_gpu)
        size = "vit-b16" if is_tiny or scale is None else scale
        files, changes = RELEASED_FILES[size], {"is_tiny": is_tiny, "on_gpu": on_gpu}
        recipes = {method: recipe_of_run(f"{method}-{size}-datacomp", settings, **changes) for method in files}
        return cls(is_tiny, files, recipes)

    def require_files(self, checkout: Path) -> None:
        """Raise ValueError if the checkout lacks a file."""
        for file in self.files.values():
            if not (checkout / file).is_file():
                raise ValueError(f"{checkout} has no {file}: --as-released needs the file in the checkout")

    def run_seconds(self, method: str, pace: Pace) -> float:
        """Return the expected seconds of a run; the authors' code is not compiled."""
        if self.is_tiny:
            return BUILD_SECONDS + pace.process_start_seconds
        return BUILD_SECONDS + pace.speed_run_seconds(change(self.experiments[method], compile="off"))

    def jobs_by_round(self, comparison: Comparison, rounds: int | None, checkout: str) -> list[list[Job]]:
        """Return the jobs of every round, in reversed order in every other one."""
        count, found = rounds or default_rounds(on_gpu=comparison.on_gpu), list[list[Job]]()
        for round_ in range(count):
            jobs = list[Job]()
            for method, file in [*self.files.items()][:: -1 if round_ % 2 else 1]:
                label, seconds = f"{file}, round {round_ + 1} of {count}", self.run_seconds(method, comparison.pace)
                fields = {"checkout": checkout, "file": file, "is_tiny": self.is_tiny, "round": round_}
                jobs.append(comparison.new_job(ReleasedRunRequest, self.experiments[method], label, seconds, **fields))
            found.append(jobs)
        return found


def recipe_of_run(name: str, settings: Sequence[str], *, is_tiny: bool, on_gpu: bool) -> Experiment:
    """Return our recipe of a file, with settings of its loading.

    It is renamed where a run has other windows or, on a CPU, another precision.
    """
    recipe = get_experiment(name)
    fields: dict[str, Any] = (TINY_WINDOWS if is_tiny else {}) | ({} if on_gpu else {"precision": "fp32"})
    return with_settings(change(recipe, name=name + AS_RELEASED, **fields) if fields else recipe, settings)


def runs_by_method(records: Sequence[Record]) -> dict[str, list[ReleasedRun]]:
    """Return the runs of the authors' code by method, CLIP first, and by round."""
    runs: dict[str, list[ReleasedRun]] = {"clip": [], "catlip": []}
    for record in records:
        if isinstance(record.measured, ReleasedRun) and record.experiment is not None:
            runs[record.experiment.method].append(record.measured)
    return {method: sorted(found, key=lambda run: run.round) for method, found in runs.items() if found}


def released_tables(records: Sequence[Record]) -> list[Table]:
    """Return the tables of speeds, of changed keys, and of every key of each file."""
    runs = runs_by_method(records)
    return [released_speed_table(runs), changes_table(runs), *(keys_table(found[0]) for found in runs.values())]


def released_speed_table(runs: dict[str, list[ReleasedRun]]) -> Table:
    """List each file's images per second, and the ratio of CatLIP's to CLIP's."""
    rates = {method: {run.round: run.images_per_second for run in found} for method, found in runs.items()}
    ratios = ratios_of(rates["clip"], {"catlip": rates["catlip"]}) if len(rates) > 1 else {}
    rows = []
    for method, found in runs.items():
        sizes = [size for run in found for size in run.image_sizes]
        row = {"file": found[0].file, "runs": len(found), "images/s": median(rates[method].values())}
        row |= {"spread": log_std(rates[method])} | ratio_columns(ratios.get(method))
        waits = [run.data_wait_share for run in found if run.data_wait_share is not None]
        row |= {"waited": median(waits) if waits else None}
        row |= {"px": _range(height for height, *_ in sizes), "images a step": _range(images for *_, images in sizes)}
        rows.append(row | {"first loss": found[0].losses[0], "last loss": found[0].losses[-1]})
    sources = {f"{run.repository} at {run.commit}" for found in runs.values() for run in found}
    note = (
        "ratio: images/s over those of CLIP's file, with its 95 % interval over runs (fresh processes, interleaved).\n"
        "waited: share of the windows' time in which the loop waited for its batch."
    )
    return Table.of_figures(f"As released: {', '.join(sorted(sources))}, one process", rows, note)


def changes_table(runs: dict[str, list[ReleasedRun]]) -> Table:
    """List the keys whose values are not those of the files."""
    rows = [
        {"file": found[0].file, "changed key": key, "change": text}
        for found in runs.values()
        for key, text in found[0].changed.items()
    ]
    return Table.of_figures("Changed keys", rows)


def keys_table(run: ReleasedRun) -> Table:
    """List every key of a file, with what became of it."""
    rows = [
        {"key": key, "released": one.released, "state": one.state, "reason": one.reason}
        for key, one in sorted(run.keys.items(), key=lambda item: STATES.index(item[1].state))
    ]
    counts = Counter[str](one.state for one in run.keys.values())
    return Table.of_figures(
        f"Keys of {run.file}", rows, ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    )


def _range(values: Iterable[int]) -> str:
    found = sorted({*values})
    return "-".join(map(str, dict.fromkeys((found[0], found[-1]))))
