"""The verb `reference`: compares this project's training speed and losses with reference implementations."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from msgspec import structs
from tyro.conf import Positional, arg

from bench.cli.options import (
    Json,
    OptionalFolder,
    Results,
    Rounds,
    Settings,
    print_results_and_get_exit_code,
)
from bench.console.console import DISAGREEMENT, OK
from bench.console.options import ROUNDS_RANGE, require_option_in_range
from bench.environment.circumstances import describe_current_commit
from bench.experiment.config import FIELDS, Experiment
from bench.features.reference import (
    OPEN_CLIP_CHECKOUT_SIDES,
    OPEN_CLIP_SIDES,
    REFERENCE_REPOSITORIES,
    SUPERCLASS_SIDES,
    ReferenceName,
)
from bench.features.reference.experiments import (
    reference_experiment,
    released_experiments_by_file,
    runs_corenet_at_tiny_scale,
)
from bench.features.reference.tables import (
    loss_comparison_table,
    reference_speed_table,
    released_run_tables,
)
from bench.orchestration import preflight
from bench.orchestration.comparison import Comparison
from bench.orchestration.runs import FunctionRun
from bench.orchestration.scope import default_num_rounds


@dataclass(frozen=True, slots=True)
class CompareWithReference:
    """Compare training speed and losses with a reference implementation, interleaved in fresh processes.

    open-clip: the loop of `open_clip_train`, as released and with fused AdamW, is compared with ours, with the same
    model, weights, batches and learning rates, on captions of web length. With a checkout of open_clip's main branch,
    that checkout's loop is compared, too: it buckets captions by length, has fused AdamW and reads the same images.

    superclass: the authors' model and loss are compared with ours, with equal weights, batches and learning rates, in
    fp32.

    corenet: the authors' training loop runs their CLIP and CatLIP configuration files, unchanged; ours is not run. On a
    CPU the scale tiny is the default; a table lists what it changes.

    Code of a checkout is executed by child processes.
    """

    reference: Positional[ReferenceName]  # reference implementation to compare with
    # folder with a git checkout of the reference's code; required for corenet and superclass
    checkout: OptionalFolder = None
    # size of the towers. open-clip and superclass: tiny, vit-b32 (default of open-clip), vit-b16 (default of
    # superclass) or vit-l14. corenet: tiny (default on a CPU), vit-b16 (default on a GPU) or vit-h16
    scale: Literal["tiny", "vit-b32", "vit-b16", "vit-l14", "vit-h16"] | None = None
    # with corenet: folder, file or glob of captioned images that are loaded while it trains; default: the shipped pack
    corenet_training_data: Annotated[str | None, arg(metavar="PATH")] = None
    rounds: Rounds = None
    # continue the newest `reference` comparison in RESULTS, which must be of the same experiment and commit: recorded
    # runs are not repeated, failed ones are; default: begin a new one
    resume: bool = False
    settings: Settings = ()
    results: Results = Path("results")
    json: Json = None

    def run(self) -> int:
        """Run the rounds, then print the ratios and compare the losses."""
        self._require_valid_options()
        experiments_by_title = self._experiments_by_title()
        self._require_checkout(experiments_by_title if self._is_corenet else ())
        experiments = list(experiments_by_title.values())
        preflight.require_runnable_and_prepare_data(self.results, experiments, may_differ=FIELDS)
        comparison = preflight.begin_comparison(
            self.results, "reference", experiments, resume=self.resume
        )
        self._require_equal_checkouts(comparison)
        num_rounds = self.rounds or default_num_rounds(on_gpu=comparison.on_gpu)
        for round_ in range(num_rounds):
            runs = self._new_runs_of_round(comparison, experiments_by_title, round_)
            comparison.run_round(runs if round_ % 2 == 0 else runs[::-1], num_rounds - round_ - 1)
        records = comparison.records()
        if self._is_corenet:
            return print_results_and_get_exit_code(
                comparison, released_run_tables(records), self.json
            )
        losses = loss_comparison_table(records)
        tables = [reference_speed_table(records, self._sides), losses]
        code = print_results_and_get_exit_code(comparison, tables, self.json)
        if code == OK and any(row["equal"] == "no" for row in losses.rows):
            return DISAGREEMENT
        return code

    @property
    def _is_corenet(self) -> bool:
        return self.reference == "corenet"

    @property
    def _sides(self) -> tuple[str, ...]:
        """The names of the implementations that open-clip or superclass compares, the reference first."""
        if self.reference == "superclass":
            return SUPERCLASS_SIDES
        return OPEN_CLIP_CHECKOUT_SIDES if self.checkout else OPEN_CLIP_SIDES

    def _experiments_by_title(self) -> dict[str, Experiment]:
        """Return the experiments by the title of their runs: their name, or the path of corenet's file in CHECKOUT.

        Raises ValueError for a setting or a scale that cannot be run.
        """
        on_gpu = preflight.has_gpu()
        if self._is_corenet:
            settings = list(self.settings)
            if self.corenet_training_data is not None:
                settings.append(f"data={self.corenet_training_data}")
            return released_experiments_by_file(self.scale, settings, on_gpu=on_gpu)
        experiment = reference_experiment(self.reference, self.scale, self.settings, on_gpu=on_gpu)
        return {experiment.name: experiment}

    def _new_runs_of_round(
        self, comparison: Comparison, experiments: Mapping[str, Experiment], round_: int
    ) -> list[FunctionRun]:
        """Return the runs of a round: of both files of corenet, or of the experiment on all sides."""
        checkout = str(self.checkout.resolve()) if self.checkout else ""
        runs = []
        for title, experiment in experiments.items():
            if self._is_corenet:
                run = comparison.new_run(
                    "bench.features.reference.corenet_released:run_corenet_as_released",
                    "released-run",
                    experiment,
                    f"{title}, round {round_ + 1}",
                    f"round{round_:02}",
                    config_file=title,
                    is_tiny=runs_corenet_at_tiny_scale(self.scale, on_gpu=comparison.on_gpu),
                    round_=round_,
                    checkout=checkout,
                )
                # Convolutions use TF32, torch's default; matrix products use what CoreNet's `device_setup` sets.
                runs.append(structs.replace(run, uses_tf32=True))
                continue
            for side in self._sides:
                run = comparison.new_run(
                    "bench.features.reference.runs:train_side",
                    "reference",
                    experiment,
                    f"{title}, {side}, round {round_ + 1}",
                    side,
                    f"round{round_:02}",
                    side=side,
                    round_=round_,
                    checkout=checkout,
                )
                runs.append(run)
        return runs

    def _require_checkout(self, config_files: Iterable[str]) -> None:
        """Raise ValueError without a checkout that is needed, or for one that lacks a file."""
        repository = REFERENCE_REPOSITORIES[self.reference]
        if self.checkout is None:
            if self.reference == "open-clip":
                return
            raise ValueError(
                f"{self.reference} needs --checkout FOLDER, a `git clone {repository.url}`"
            )
        for file in (repository.identifying_file, *config_files):
            if not (self.checkout / file).is_file():
                raise ValueError(
                    f"{self.checkout} has no {file}: --checkout needs a `git clone {repository.url}`"
                )

    def _require_equal_checkouts(self, comparison: Comparison) -> None:
        """Raise ValueError for a resumed comparison with runs of another commit of CHECKOUT."""
        commit = describe_current_commit(self.checkout) if self.checkout else ""
        for record in comparison.records():
            if getattr(record.measured, "commit", commit) != commit:
                raise ValueError(
                    f"{comparison.name} has runs beside another commit of --checkout: begin a new comparison without "
                    "--resume"
                )

    def _require_valid_options(self) -> None:
        """Raise ValueError for a value out of range, or an option that the reference does not use."""
        require_option_in_range("rounds", self.rounds, *ROUNDS_RANGE)
        if self.corenet_training_data is not None and not self._is_corenet:
            raise ValueError(
                f"--corenet-training-data is for corenet, not for {self.reference}: leave it out"
            )
        for setting in self.settings:
            if self._is_corenet and (
                self.corenet_training_data is None or not setting.startswith("workers=")
            ):
                raise ValueError(
                    f"corenet runs as released, got --set {setting}: with --corenet-training-data, workers=N may be set"
                )
