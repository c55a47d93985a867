"""The verb `reference`: compares this project's training speed and losses with reference implementations."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from msgspec import structs
from tyro.conf import Positional, arg

from bench.cli.options import (
    Data,
    Json,
    Results,
    Rounds,
    Settings,
    print_results,
)
from bench.console.console import DISAGREEMENT, OK
from bench.console.options import ROUNDS_RANGE, require_range
from bench.experiment.config import FIELDS, Experiment
from bench.features.reference import (
    CHECKOUTS,
    OPEN_CLIP_CHECKOUT_SIDES,
    OPEN_CLIP_SIDES,
    SUPERCLASS_SIDES,
    ReferenceName,
)
from bench.features.reference.experiments import (
    is_tiny_scale,
    open_clip_experiment,
    released_experiments,
    superclass_experiment,
    with_first_round_windows,
)
from bench.features.reference.tables import (
    LOSSES_NOTE,
    compare_early_losses,
    reference_speed_table,
    released_tables,
)
from bench.orchestration.comparison import Comparison
from bench.orchestration.preflight import begin, check, has_gpu, resume
from bench.orchestration.runs import Run
from bench.orchestration.scope import default_rounds
from bench.tables.tables import Table


@dataclass(frozen=True, slots=True)
class Reference:
    """Compare training speed and losses with a reference implementation, interleaved in fresh processes.

    open-clip: the loop of `open_clip_train`, as released and with fused AdamW, beside ours, with the same model,
    weights, batches and learning rates, on captions of web length. A checkout of open_clip's main branch adds its loop
    with bucketing (batches of captions of similar length, fused AdamW), over the same images.
    superclass: the authors' model and loss beside ours, with equal weights, batches and learning rates, in fp32.
    corenet: the authors' own training loop with their files of CLIP and CatLIP, unchanged and without a side of ours;
    with --data the images are loaded from tar shards while it runs. On a CPU it runs at the scale tiny, whose changes
    are listed. Code of a checkout is executed by child processes.
    """

    reference: Positional[ReferenceName]  # name of the reference implementation
    checkout: Annotated[
        Path | None, arg(metavar="PATH", help="folder of a checkout of the reference's code")
    ] = None
    # scale of the experiments: tiny, vit-b32 (default of open-clip), vit-b16 (default of superclass, and of corenet on
    # a GPU) or vit-h16 (corenet)
    scale: str | None = None
    data: Data = None
    rounds: Rounds = None
    # resume the newest comparison with a reference; recorded runs are not repeated
    resume: bool = False
    settings: Settings = ()
    results: Results = Path("results")
    json: Json = None

    def run(self) -> int:
        """Run the rounds, then print the ratios and compare the losses."""
        self._check_options()
        self._check_checkout()
        experiments = list(self._experiments().values())
        is_released = self.reference == "corenet"
        check(self.results, experiments, may_differ=FIELDS)
        if self.resume:
            longer = [with_first_round_windows(experiment) for experiment in experiments]
            comparison = resume(self.results, "reference", experiments, scored=longer)
        else:
            comparison = begin(self.results, "reference", experiments)
        num_rounds = self.rounds or default_rounds(on_gpu=comparison.on_gpu)
        for round_ in range(num_rounds):
            runs = self._runs_of_round(comparison, round_)
            comparison.run_round(runs if round_ % 2 == 0 else runs[::-1])
            comparison.expect_rounds(num_rounds - round_ - 1)
        records = comparison.records()
        if is_released:
            return print_results(comparison, released_tables(records), self.json)
        losses = compare_early_losses(records)
        tables = [
            reference_speed_table(records, self._sides),
            Table.of_figures("Losses of the first round", losses, LOSSES_NOTE),
        ]
        code = print_results(comparison, tables, self.json)
        has_other_losses = any(row["equal"] == "no" for row in losses)
        return DISAGREEMENT if code == OK and has_other_losses else code

    @property
    def _sides(self) -> tuple[str, ...]:
        if self.reference == "superclass":
            return SUPERCLASS_SIDES
        return OPEN_CLIP_CHECKOUT_SIDES if self.checkout else OPEN_CLIP_SIDES

    def _experiments(self) -> dict[str, Experiment]:
        """Return the experiments that are compared, of corenet by the file of each; ValueError if one cannot be."""
        on_gpu = has_gpu()
        if self.reference == "corenet":
            data = [] if self.data is None else [f"data={self.data}"]
            return released_experiments(self.scale, [*data, *self.settings], on_gpu=on_gpu)
        prepare = open_clip_experiment if self.reference == "open-clip" else superclass_experiment
        experiment = prepare(self.scale, self.settings, on_gpu=on_gpu)
        return {experiment.name: experiment}

    def _runs_of_round(self, comparison: Comparison, round_: int) -> list[Run]:
        """Return the runs of a round: of both files of corenet, else of all sides.

        On a CPU the first round has more windows, for the losses. A checkout of open_clip needs the images of many
        batches in each round.
        """
        arguments: dict[str, Any] = {"round_": round_, "checkout": self._checkout_path}
        runs = []
        for name, experiment in self._experiments().items():
            if self.reference == "corenet":
                run = comparison.new_run(
                    "bench.features.reference.corenet_released:run_as_released",
                    "released-run",
                    experiment,
                    f"{name}, round {round_ + 1}",
                    f"round{round_:02}",
                    file=name,
                    is_tiny=is_tiny_scale(self.scale, on_gpu=comparison.on_gpu),
                    **arguments,
                )
                # Convolutions compute by torch's default, in TF32, and products as CoreNet's `device_setup` sets them.
                runs.append(structs.replace(run, uses_tf32=True))
                continue
            has_longer_windows = round_ == 0 or self._sides == OPEN_CLIP_CHECKOUT_SIDES
            timed = experiment
            if has_longer_windows and not comparison.on_gpu:
                timed = with_first_round_windows(experiment)
            for side in self._sides:
                run = comparison.new_run(
                    "bench.features.reference.runs:run_side",
                    "reference",
                    timed,
                    f"{name}, {side}, round {round_ + 1}",
                    side,
                    f"round{round_:02}",
                    side=side,
                    **arguments,
                )
                runs.append(run)
        return runs

    @property
    def _checkout_path(self) -> str:
        return str(self.checkout.resolve()) if self.checkout else ""

    def _check_checkout(self) -> None:
        """Raise ValueError without a checkout of the reference, or if it lacks one of the files."""
        url, file = CHECKOUTS[self.reference]
        if self.checkout is None:
            if self.reference == "open-clip":
                return
            raise ValueError(f"{self.reference} needs --checkout PATH, a `git clone {url}`")
        files = [file]
        if self.reference == "corenet":
            files += self._experiments()
        for name in files:
            if not (self.checkout / name).is_file():
                raise ValueError(
                    f"{self.checkout} has no {name}: --checkout needs a `git clone {url}`"
                )

    def _check_options(self) -> None:
        """Raise ValueError for a value out of range, or an option that the reference does not use."""
        require_range("rounds", self.rounds, *ROUNDS_RANGE)
        is_released = self.reference == "corenet"
        if self.data is not None and not is_released:
            raise ValueError(f"--data is for corenet, not for {self.reference}: leave it out")
        for setting in self.settings:
            if is_released and (self.data is None or not setting.startswith("workers=")):
                raise ValueError(
                    f"corenet runs as released, got --set {setting}: with --data, workers=N may be set"
                )
