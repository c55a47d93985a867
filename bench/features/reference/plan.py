"""What a comparison with a reference runs: its experiments, and the processes of each round. No torch here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import structs

from bench.data.caption_lengths import WEB
from bench.experiment.config import Experiment, change
from bench.experiment.experiments import EXPERIMENTS, get_experiment
from bench.experiment.recipes import AS_RELEASED
from bench.experiment.settings import with_settings
from bench.features.reference import RELEASED_FILES
from bench.orchestration.comparison import Comparison
from bench.orchestration.runs import Run

# Factor of the number of windows in the first round on a CPU: 20 steps, whose losses are compared.
FIRST_ROUND_FACTOR = 3
PLAIN: dict[str, Any] = {
    "caption_lengths": WEB,
    "batch_size": 8,
    "clip_norm": None,
    "windows": 2,
    "steps_per_window": 3,
}
# Of a second or so, with the losses that are compared.
GPU_WINDOWS = {
    "windows": 3,
    "steps_per_window": 40,
}
TINY_WINDOWS = {"windows": 3, "steps_per_window": 4, "warmup_steps": 2}
RUN_SIDE = "bench.features.reference.runs:run_side"
RUN_AS_RELEASED = "bench.features.reference.corenet_released:run_as_released"


@dataclass(frozen=True, slots=True)
class SideRun:
    """A process of a round."""

    function: str  # "module:function"
    kind: str  # of the record, in its file's name
    experiment: Experiment
    label: str
    arguments: Mapping[str, Any]  # of the function, beside the experiment and the round
    names: tuple[str, ...] = ()  # further parts of the name of the record's file
    uses_tf32: bool = False  # whether a GPU rounds the factors of fp32 products to TF32


def runs_of_round(
    comparison: Comparison, sides: Sequence[SideRun], round_: int, num_rounds: int
) -> list[Run]:
    """Return the runs of a round; every other round has the reversed order."""
    runs = []
    for side in sides if round_ % 2 == 0 else reversed(sides):
        label = f"{side.label}, round {round_ + 1} of {num_rounds}"
        names = (*side.names, f"round{round_:02}")
        run = comparison.new_run(
            side.function,
            side.kind,
            side.experiment,
            label,
            *names,
            round_=round_,
            **side.arguments,
        )
        runs.append(structs.replace(run, uses_tf32=side.uses_tf32))
    return runs


def open_clip_experiments(
    name: str | None, settings: Sequence[str], *, on_gpu: bool
) -> list[Experiment]:
    """Return the experiments that open_clip and we train; ValueError for one that has another method.

    On a GPU there is one without and one with compilation, unless the settings choose.
    """
    base = get_experiment(name or "clip-vit-b32")
    if base.method != "clip":
        raise ValueError(
            f"open-clip is compared with an experiment of the method clip; {base.name} has {base.method}"
        )
    plain = change(base, **(PLAIN | GPU_WINDOWS if on_gpu else PLAIN))
    experiment = with_settings(plain, settings)
    if not on_gpu or experiment.runtime.compile != "auto":
        return [_require_one_image_size(experiment)]
    return [
        _require_one_image_size(with_settings(plain, [*settings, f"compile={choice}"]))
        for choice in ("off", "on")
    ]


def superclass_experiment(
    scale: str | None, settings: Sequence[str], *, on_gpu: bool
) -> Experiment:
    """Return the experiment that SuperClass's code and ours train, in fp32."""
    base = EXPERIMENTS[f"superclass-{scale or 'vit-b16'}"]
    fields = PLAIN | GPU_WINDOWS if on_gpu else PLAIN
    fields = fields | {"subword_vocabulary": "all", "precision": "fp32", "compile": "off"}
    experiment = change(base, name=f"{base.name}-superclass", **fields)
    return _require_one_image_size(with_settings(experiment, settings))


def _require_one_image_size(experiment: Experiment) -> Experiment:
    if experiment.image.image_sizes:
        raise ValueError(
            "a comparison with a reference needs one image size: leave image_sizes empty"
        )
    return experiment


def with_first_round_windows(experiment: Experiment) -> Experiment:
    """Return the experiment with the windows of the first round."""
    return change(experiment, windows=experiment.timing.windows * FIRST_ROUND_FACTOR)


@dataclass(frozen=True, slots=True)
class ReleasedPlan:
    """The authors' files that are run, and our recipe of each, by method."""

    is_tiny: bool  # with the changes of the tiny scale
    files: Mapping[str, str]
    experiments: Mapping[str, Experiment]

    @classmethod
    def of_scale(
        cls, scale: str | None, settings: Sequence[str], *, on_gpu: bool
    ) -> "ReleasedPlan":
        """Return the plan of a scale, by default vit-b16 on a GPU and tiny on a CPU."""
        is_tiny = scale == "tiny" or (scale is None and not on_gpu)
        size = "vit-b16" if is_tiny or scale is None else scale
        files = RELEASED_FILES[size]
        recipes = {}
        for method in files:
            recipes[method] = recipe_of_run(
                f"{method}-{size}-datacomp", settings, is_tiny=is_tiny, on_gpu=on_gpu
            )
        return cls(is_tiny, files, recipes)

    def require_files(self, checkout: Path) -> None:
        """Raise ValueError if the checkout lacks a file."""
        for file in self.files.values():
            if not (checkout / file).is_file():
                raise ValueError(
                    f"{checkout} has no {file}: the comparison needs the file in the checkout"
                )

    def runs(self, checkout: str) -> list[SideRun]:
        """Return the processes of a round.

        Convolutions compute by torch's default, in TF32, and products as CoreNet's `device_setup` sets them.
        """
        runs = []
        for method, file in self.files.items():
            arguments = {"checkout": checkout, "file": file, "is_tiny": self.is_tiny}
            experiment = self.experiments[method]
            runs.append(
                SideRun(
                    RUN_AS_RELEASED, "released-run", experiment, file, arguments, uses_tf32=True
                )
            )
        return runs


def recipe_of_run(name: str, settings: Sequence[str], *, is_tiny: bool, on_gpu: bool) -> Experiment:
    """Return our recipe of a file, with settings of its loading.

    It is renamed where a run has other windows or, on a CPU, another precision.
    """
    fields: dict[str, Any] = {}
    if is_tiny:
        fields |= TINY_WINDOWS
    if not on_gpu:
        fields["precision"] = "fp32"
    recipe = get_experiment(name)
    if fields:
        recipe = change(recipe, name=name + AS_RELEASED, **fields)
    return with_settings(recipe, settings)
