"""The verb `reference`: compares this project's training speed and losses with reference implementations."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from bench.cli.options import (
    Data,
    Json,
    Results,
    Rounds,
    Settings,
    print_results,
)
from bench.console.console import DISAGREEMENT, OK, log
from bench.console.options import ROUNDS_RANGE, require_range
from bench.experiment.config import FIELDS, MAY_DIFFER_AT_LARGEST_BATCH, Experiment
from bench.features.reference import (
    CHECKOUTS,
    OPEN_CLIP_CHECKOUT_SIDES,
    OPEN_CLIP_SIDES,
    SUPERCLASS_SIDES,
    ReferenceName,
)
from bench.features.reference.plan import (
    RUN_SIDE,
    ReleasedPlan,
    SideRun,
    open_clip_experiments,
    runs_of_round,
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

# References that use an option; the other ones refuse it.
USERS = {"name": ("open-clip",), "scale": ("corenet", "superclass"), "data": ("corenet",)}


@dataclass(frozen=True, slots=True)
class Reference:
    """Compare training speed and losses with a reference implementation, interleaved in fresh processes.

    open-clip: the loop of `open_clip_train`, as released and with fused AdamW, beside ours, with the same model,
    weights, batches and learning rates, on captions of web length; on a GPU all sides eager, and all compiled. A
    checkout of open_clip's main branch adds its loop, with its defaults and with bucketing (batches of captions of
    similar length, fused AdamW), over the same images. superclass: the authors' model and loss beside ours, likewise,
    in fp32. corenet: the authors' own training loop with their files of CLIP and CatLIP, unchanged and without a side
    of ours; with --data their images are loaded from tar shards while it runs. On a CPU it runs at the scale tiny,
    whose changes are listed. Code of a checkout is executed by child processes.
    """

    reference: Positional[ReferenceName]  # name of the reference implementation
    # name of the CLIP experiment to compare with open-clip, at a batch of 8; default clip-vit-b32
    name: str | None = None
    checkout: Annotated[
        Path | None, arg(metavar="PATH", help="folder of a checkout of the reference's code")
    ] = None
    # scale of the experiment to compare with superclass, tiny or vit-b16 (the default); size of corenet's files,
    # vit-b16 or vit-h16, or tiny, the default on a CPU
    scale: Literal["tiny", "vit-b16", "vit-h16"] | None = None
    data: Data = None
    rounds: Rounds = None
    resume: bool = (
        False  # resume the newest comparison with a reference; recorded runs are not repeated
    )
    settings: Settings = ()
    results: Results = Path("results")
    json: Json = None

    def run(self) -> int:
        """Run the rounds, then print the ratios and compare the losses."""
        self._check_options()
        if self.checkout is None and self.reference != "open-clip":
            log(
                f"skipped: {self.reference} needs --checkout PATH, a `git clone {CHECKOUTS[self.reference].url}`"
            )
            return OK
        if self.reference == "open-clip" and find_spec("open_clip_train") is None:
            log("skipped: open_clip_train is not installed; install open_clip_torch 3.3")
            return OK
        self._check_checkout()
        experiments = self._experiments(on_gpu=has_gpu())
        is_released = self.reference == "corenet"
        may_differ = FIELDS if is_released else (*MAY_DIFFER_AT_LARGEST_BATCH, "compile")
        check(self.results, experiments, may_differ=may_differ)
        if self.resume:
            longer = map(with_first_round_windows, experiments)
            comparison = resume(self.results, "reference", experiments, scored=longer)
        else:
            comparison = begin(self.results, "reference", experiments)
        rounds = self._rounds(comparison)
        for number, runs in enumerate(rounds, start=1):
            comparison.run_round(runs)
            comparison.expect_rounds(len(rounds) - number)
        records = comparison.records()
        if is_released:
            return print_results(comparison, released_tables(records), self.json)
        losses = compare_early_losses(records)
        tables = [
            reference_speed_table(records, self._sides),
            Table.of_figures("Losses of the first round", losses, LOSSES_NOTE),
        ]
        code = print_results(comparison, tables, self.json)
        if code == OK and any(row["equal"] == "no" for row in losses):
            return DISAGREEMENT
        return code

    @property
    def _sides(self) -> tuple[str, ...]:
        if self.reference == "superclass":
            return SUPERCLASS_SIDES
        return OPEN_CLIP_CHECKOUT_SIDES if self.checkout else OPEN_CLIP_SIDES

    @property
    def _checkout_path(self) -> str:
        return str(self.checkout.resolve()) if self.checkout else ""

    def _experiments(self, *, on_gpu: bool) -> list[Experiment]:
        """Return the experiments that are compared; ValueError for one that cannot be."""
        if self.reference == "corenet":
            return list(self._released_plan(on_gpu=on_gpu).experiments.values())
        if self.reference == "superclass":
            return [superclass_experiment(self.scale, self.settings, on_gpu=on_gpu)]
        return open_clip_experiments(self.name, self.settings, on_gpu=on_gpu)

    def _released_plan(self, *, on_gpu: bool) -> ReleasedPlan:
        data = [] if self.data is None else [f"data={self.data}"]
        return ReleasedPlan.of_scale(self.scale, [*data, *self.settings], on_gpu=on_gpu)

    def _rounds(self, comparison: Comparison) -> list[list[Run]]:
        """Return the runs of every round."""
        is_released = self.reference == "corenet"
        num_rounds = self.rounds or default_rounds(on_gpu=comparison.on_gpu)
        rounds = []
        for round_ in range(num_rounds):
            if is_released:
                runs = self._released_plan(on_gpu=comparison.on_gpu).runs(self._checkout_path)
                rounds.append(runs_of_round(comparison, runs, round_, num_rounds))
                continue
            for experiment in comparison.experiments:
                runs = self._runs_of_sides(comparison, experiment, round_)
                rounds.append(runs_of_round(comparison, runs, round_, num_rounds))
        return rounds

    def _runs_of_sides(
        self, comparison: Comparison, experiment: Experiment, round_: int
    ) -> list[SideRun]:
        """Return the processes of a round: one for each side.

        On a CPU the first round has more windows, for the losses. A checkout of open_clip needs the images of many
        batches in each round.
        """
        is_longer = round_ == 0 or self._sides == OPEN_CLIP_CHECKOUT_SIDES
        if is_longer and not comparison.on_gpu:
            experiment = with_first_round_windows(experiment)
        runs = []
        for side in self._sides:
            arguments = {"side": side, "checkout": self._checkout_path}
            label = f"{experiment.name}, {side}"
            runs.append(SideRun(RUN_SIDE, "reference", experiment, label, arguments, (side,)))
        return runs

    def _check_checkout(self) -> None:
        """Raise ValueError for a folder that is no checkout of the reference, or lacks one of its files."""
        if self.checkout is None:
            return
        expected = CHECKOUTS[self.reference]
        folder = self.checkout.resolve()
        if not expected.matches_folder(folder):
            raise ValueError(
                f"{folder} has no {expected.file}: --checkout needs a `git clone {expected.url}`"
            )
        if self.reference == "corenet":
            self._released_plan(on_gpu=has_gpu()).require_files(folder)

    def _check_options(self) -> None:
        """Raise ValueError for a value out of range, or an option that the reference does not use."""
        require_range("rounds", self.rounds, *ROUNDS_RANGE)
        for option, references in USERS.items():
            if getattr(self, option) is not None and self.reference not in references:
                users = " or ".join(references)
                raise ValueError(
                    f"--{option} is for {users}, not for {self.reference}: leave it out"
                )
        if self.reference == "superclass" and self.scale == "vit-h16":
            raise ValueError("--scale vit-h16 is for corenet; superclass has tiny and vit-b16")
        if self.reference == "corenet":
            for setting in self.settings:
                if self.data is None or not setting.startswith("workers="):
                    remedy = "leave it out (with --data, workers=N may be set)"
                    raise ValueError(f"corenet runs as released, got --set {setting}: {remedy}")
